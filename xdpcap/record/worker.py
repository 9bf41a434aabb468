"""Workers: one a queue, each running the hot loop without the GIL in a thread of its own.

A worker comes back to Python for stop, rotation, a finished file, a failure and a
reached limit; what is decided then is here.  It tells the session through `notify`,
which must be callable from any thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from xdpcap.errors import XdpcapError, hint
from xdpcap.host.stage_times import StageTimes
from xdpcap.host.threads import failure_line
from xdpcap.options.record import STDOUT
from xdpcap.record import capture
from xdpcap.record.attachment import Attachment
from xdpcap.record.capture import Capture
from xdpcap.record.file_chain import Chain
from xdpcap.record.ledger import QueueAccount
from xdpcap.savefile.names import PART_SUFFIX

# How long a stop waits for the disk.
DISK_WAIT_S = 1.5
# How often the ring is emptied once nothing more is wanted.
DRAIN_INTERVAL_S = 0.002


class Worker:
    """Records one queue of one interface in a thread of its own."""

    def __init__(
        self,
        attachment: Attachment,
        queue: int,
        capture: Capture,
        chain: Chain,
        *,
        cpu: int | None,
        notify: Callable[[], None],
    ) -> None:
        self.interface = attachment.link.name
        self.queue = queue
        self.error: str | None = None
        self.limit_reached = False
        self.disk_stuck = False
        self.stages: StageTimes | None = None
        self._attachment = attachment
        self._capture = capture
        self._chain = chain
        self._cpu = cpu
        self._notify = notify
        self._stop = threading.Event()
        self._stop_asked_s = 0.0
        chain.account = self.account
        self.name = f"{self.interface}-q{queue}"

    # -- the session's side -----------------------------------------------------------

    def measure(self) -> None:
        """Have it told in `stages` where the worker's time goes; before start()."""
        self.stages = StageTimes()
        self._capture.sink.measure(self.stages)

    @property
    def in_memory(self) -> bool:
        """Whether the files lie in memory."""
        return bool(self._capture.sink.mode == "sync")

    def request_stop(self) -> None:
        """Record what is in the ring, then end; the program must be detached before."""
        self._stop_asked_s = time.monotonic()
        self._stop.set()
        self._capture.request_stop()

    def request_rotation(self) -> None:
        """Go on in a new file, now."""
        self._capture.request_rotation()

    def account(self, *, final: bool = False) -> QueueAccount:
        """This queue's row of the ledger, as of now.

        Read from the file backwards to the program, so that a packet on its way is in
        flight and never missing.
        """
        sink = self._capture.sink
        row = QueueAccount(self.interface, self.queue)
        row.written, row.bytes_written, row.write_dropped, row.bytes_to_disk = sink.counters
        row.beyond_limit = self._capture.beyond_limit
        row.received = self._capture.received
        row.bytes_received = self._capture.received_bytes
        row.device_stamped = self._capture.device_stamped
        row.clock_ahead_ns = self._capture.file_ahead_ns
        row.ring_fill = self._capture.waiting
        row.current_file = self._chain.current_path
        row.files = self._chain.file_count
        self._attachment.count(row)
        row.missed = self._attachment.missed
        return row.settle(final=final)

    @property
    def stamped_by_worker(self) -> int:
        """Packets that came without the program's metadata."""
        return int(self._capture.no_meta)

    # -- the thread ---------------------------------------------------------------------

    def run(self) -> None:
        """Record until request_stop(); the thread's whole life."""
        try:
            if self._cpu is not None:
                os.sched_setaffinity(0, {self._cpu})
            self._record()
        except BaseException as exc:
            # Whatever it is, the session must hear of it and the file be finished.
            self.fail(failure_line(exc))
            self._after_failure()
        finally:
            self._finish()

    def _record(self) -> None:
        while True:
            reason = self._capture.run()
            if reason == capture.STOPPED:
                return
            if reason == capture.FILE_DONE:
                self._chain.collect()
                self._note_failure()
            elif reason == capture.WRITE_FAILED:
                self.fail(self._write_error())
            elif reason == capture.LIMIT or (reason == capture.ROTATE and not self._rotate()):
                self._after_limit()
                return
            # NO_FILE: a rotation has failed and said so; what comes now is counted as
            # write_dropped until the stop.

    def _rotate(self) -> bool:
        """Go on in the next file; False when --max-size has no room for one."""
        room = True
        try:
            room = self._chain.rotate()
        except OSError as exc:
            self.fail(f"next file of queue {self.queue}: {exc.strerror or exc}")
        except XdpcapError as exc:
            self.fail(str(exc))
        self._note_failure()
        return room

    def _after_limit(self) -> None:
        """Keep the ring empty until the program is off, counting what comes."""
        self.limit_reached = True
        self._notify()
        while not self._stop.wait(DRAIN_INTERVAL_S):
            self._capture.drain()
        time.sleep(DRAIN_INTERVAL_S)
        self._capture.drain()

    def _after_failure(self) -> None:
        """Keep the ring empty until the program is off; what comes counts as write_dropped."""
        while not self._stop.wait(DRAIN_INTERVAL_S):
            self._capture.abandon()

    def _finish(self) -> None:
        # The loop may have waited for the disk already: the time counts from the stop.
        waited_s = time.monotonic() - self._stop_asked_s if self._stop.is_set() else 0.0
        try:
            self.disk_stuck = not self._chain.close(max(DISK_WAIT_S - waited_s, 0.1))
        finally:
            # With a stuck disk the stop came before the ring was empty.
            self._capture.abandon()
        if self.disk_stuck:
            self._capture.sink.abandon()
        self._note_failure()
        if self._capture.sink.current_error and self.error is None:
            self.fail(self._write_error())

    def _note_failure(self) -> None:
        """Tell of a file that was left for the next one and could not be written since."""
        if self._chain.failure is not None:
            self.fail(write_error(*self._chain.failure))

    def _write_error(self) -> str:
        path = self._chain.current_path.removesuffix(PART_SUFFIX) or "the last file"
        return write_error(path, self._capture.sink.current_error)

    def fail(self, text: str) -> None:
        """Keep the first failure and wake the session."""
        if self.error is None:
            self.error = text
        self._notify()

    def discard(self) -> None:
        """Undo the making of a worker that was never started: no empty file stays."""
        self._chain.discard()

    def close(self) -> None:
        """Free the loop and the blocks; after run() has returned."""
        self._capture.close()
        if not self.disk_stuck:
            self._capture.sink.close()


def write_error(path: str, number: int) -> str:
    """What a failed write reads like, with the way out."""
    place = "standard output" if path == STDOUT else path
    way_out = hint(number, "write")
    return f"writing {place}: {os.strerror(number)}" + (f"; {way_out}" if way_out else "")
