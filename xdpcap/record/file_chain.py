"""The chain of files of one queue, and the thread that completes them.

A `FileChain` belongs to its worker thread: it opens the next file, switches the sink
to it, and hands files whose last write has completed to the `Closer`, which owns them
from then on: it cuts what failed, adds the interface statistics, closes and renames.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from xdpcap.errors import UsageError, XdpcapError
from xdpcap.host.threads import ThreadGroup, failure_line
from xdpcap.record.capture import SharedLimit
from xdpcap.record.ledger import QueueAccount
from xdpcap.savefile.directory import Directory, Part
from xdpcap.savefile.headers import interface_statistics
from xdpcap.savefile.names import PART_SUFFIX
from xdpcap.savefile.sink import FileSink, FinishedFile, choose_mode

# Room kept free below --rotate-size for the interface statistics, bytes.
TAIL_BYTES = 128


@dataclass
class _OpenFile:
    part: Part
    direct_fd: int
    tail: bytes = b""


@dataclass
class _Job:
    file: _OpenFile
    finished: FinishedFile


class Closer:
    """Completes files in the background, in the order in which they were finished."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.errors: list[str] = []
        self._group = ThreadGroup()
        self._group.add("closer", self._run, failed=self.errors.append)
        self._group.start()

    def put(self, job: _Job) -> None:
        """Take over a finished file; from any thread."""
        self._jobs.put(job)

    def close(self, timeout_s: float = 5.0) -> None:
        """Complete what is left and end the thread."""
        self._jobs.put(None)
        if self._group.join(timeout_s):
            self.errors.append(
                "the disk did not let every file be completed in time; what ends in "
                f"{PART_SUFFIX} is readable up to its last flush"
            )
        elif not self._jobs.empty():
            # The thread has failed: what it has left is completed here.
            self._run()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._complete(job)
            except (OSError, XdpcapError) as exc:
                self.errors.append(str(exc))
            except BaseException as exc:
                # Whatever it is, the files behind this one are still completed.
                path, why = job.file.part.path_part, failure_line(exc)
                self.errors.append(f"{path} is left as it is: {why}")

    def _complete(self, job: _Job) -> None:
        fd, size = job.file.part.fd, job.finished.size
        if job.finished.error:
            # What stands after the last whole record is torn; a reader must not see it.
            os.ftruncate(fd, size)
        if job.file.direct_fd >= 0:
            os.close(job.file.direct_fd)
        if size == 0:
            # Not even its header could be written.
            self._directory.discard(job.file.part)
            return
        try:
            _write_all(fd, job.file.tail, size)
            size += len(job.file.tail)
        except OSError:
            # A full disk holds no statistics either; the packets stay readable.
            os.ftruncate(fd, size)
        self._directory.complete(job.file.part, job.finished.packets, size)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


class Account(Protocol):
    """Tells a queue's row of the ledger."""

    def __call__(self) -> QueueAccount: ...


class Chain(Protocol):
    """What a worker does with its files, be they a directory's or one pipe."""

    sink: FileSink | None
    account: Account | None
    current_path: str
    file_count: int
    # Path and errno of the first file that could not be written whole.
    failure: tuple[str, int] | None

    def open_first(self, make_sink: Callable[[str], FileSink]) -> None: ...
    def rotate(self) -> bool: ...
    def collect(self) -> None: ...
    def close(self, timeout_s: float) -> bool: ...
    def discard(self) -> None: ...


class FileChain:
    """The files of one queue, one after the other.

    `make_name(start_ns, sequence)` names a file, `header` stands at its start,
    `account()` tells the counters for the statistics at its end (pcapng only, when
    `with_statistics`).
    """

    def __init__(
        self,
        directory: Directory,
        closer: Closer,
        *,
        make_name: Callable[[int, int], str],
        header: bytes,
        with_statistics: bool,
        limit: SharedLimit | None,
    ) -> None:
        self._directory = directory
        self._closer = closer
        self._make_name = make_name
        self._header = header
        self._with_statistics = with_statistics
        self._limit = limit
        self._sequence = 0
        self._open: dict[int, _OpenFile] = {}
        self._complete: dict[int, _Job] = {}
        self._current = -1
        self._started_ns = time.time_ns()
        self.account: Account | None = None
        self.sink: FileSink | None = None
        self.current_path = ""
        self.file_count = 0
        self.failure: tuple[str, int] | None = None

    def open_first(self, make_sink: Callable[[str], FileSink]) -> None:
        """Open the first file; the file system decides how the sink writes.

        `make_sink(mode)` makes the sink; see `xdpcap.savefile.sink.choose_mode`.
        """
        if not self._take_room():
            raise UsageError("--max-size: has no room for a file of each queue; ask for more")
        with self._next_part() as part:
            mode, direct_fd = choose_mode(part.fd)
            self.sink = make_sink(mode)
            self._begin(part, direct_fd)

    def rotate(self) -> bool:
        """Finish the current file and go on in the next.

        False, and nothing done, when the limit of bytes has no room for another file.
        Raises XdpcapError or OSError when there can be no next file; the old one is
        finished all the same, and no empty one stays.
        """
        if not self._take_room():
            return False
        self.finish()
        with self._next_part() as part:
            _, direct_fd = choose_mode(part.fd, direct=self._sink.mode == "direct")
            self._begin(part, direct_fd)
        return True

    def finish(self) -> None:
        """No more records for the current file."""
        if self._current < 0:
            return
        file = self._open[self._current]
        # First: whatever the statistics raise, the file's last records are written.
        self._sink.finish_file()
        self._current = -1
        self.current_path = ""
        file.tail = self._statistics()
        self.collect()

    def collect(self) -> None:
        """Hand the files whose last write has completed to the closer, oldest first.

        A later file may have been written before an earlier one: it waits.
        """
        for finished in self._sink.collect():
            file = self._open.pop(finished.index)
            if finished.error and self.failure is None:
                self.failure = file.part.path_final, finished.error
            if finished.size == 0:
                self.file_count -= 1  # not even its header was written: the closer deletes it
            self._complete[file.part.sequence] = _Job(file, finished)
        self._hand_over(min((f.part.sequence for f in self._open.values()), default=math.inf))

    def _hand_over(self, before: float) -> None:
        """Give the closer the complete files of lower sequence numbers, in their order."""
        for sequence in sorted(s for s in self._complete if s < before):
            self._closer.put(self._complete.pop(sequence))

    def close(self, timeout_s: float) -> bool:
        """Finish, wait for the disk, hand over; False when the disk took too long."""
        try:
            self.finish()
        finally:
            whole = self._sink.wait(timeout_s)
            self.collect()
            self._hand_over(math.inf)  # what is behind one that the disk did not take, too
        return whole

    def discard(self) -> None:
        """Undo open_first() when the set-up failed later on: no empty file stays."""
        for file in self._open.values():
            if file.direct_fd >= 0:
                os.close(file.direct_fd)
            with contextlib.suppress(OSError):
                self._directory.discard(file.part)
        self._open.clear()
        self._current = -1

    @property
    def _sink(self) -> FileSink:
        assert self.sink is not None, "open_first() comes first"
        return self.sink

    @contextlib.contextmanager
    def _next_part(self) -> Iterator[Part]:
        """A new file; deleted again when what is done with it fails."""
        part = self._open_part()
        try:
            yield part
        except BaseException:
            with contextlib.suppress(XdpcapError):
                self._directory.discard(part)
            raise

    def _open_part(self) -> Part:
        start_ns = time.time_ns()
        part = self._directory.open_part(
            lambda sequence: self._make_name(start_ns, sequence), self._sequence + 1
        )
        self._sequence = part.sequence
        return part

    def _take_room(self) -> bool:
        """Take what is in every file besides packets off the limit of bytes."""
        tail_bytes = TAIL_BYTES if self._with_statistics else 0
        return self._limit is None or self._limit.take(len(self._header) + tail_bytes)

    def _begin(self, part: Part, direct_fd: int) -> None:
        while True:
            try:
                self._current = self._sink.open_file(part.fd, direct_fd, self._header)
                break
            except BlockingIOError:
                # Every block is in flight: the disk is the bottleneck, the ring waits.
                self._sink.wait(0.05)
                self.collect()
        self._open[self._current] = _OpenFile(part, direct_fd)
        self.current_path = part.path_part
        self.file_count += 1

    def _statistics(self) -> bytes:
        if not self._with_statistics or self.account is None:
            return b""
        try:
            row = self.account()
        except XdpcapError:
            return b""  # without its statistics the file is whole as well
        # In the clock of the packets' times; one that was set back may have begun after now.
        now_ns = max(time.time_ns() + row.clock_ahead_ns, 0)
        return interface_statistics(
            0,
            now_ns,
            starttime_ns=max(self._started_ns + row.clock_ahead_ns, 0),
            endtime_ns=now_ns,
            ifrecv=row.seen,
            ifdrop=row.missed,
            filteraccept=row.accepted,
            osdrop=row.rx_dropped + row.rx_ring_full + row.ring_lost,
            usrdeliv=row.received,
        )
