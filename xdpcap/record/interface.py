"""One interface being recorded: its attachment, its workers, their files.

Made by the session, which also takes it down: stop() has the order that loses nothing
(program off, rings emptied, blocks on disk, sockets closed).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from xdpcap.host.threads import JOIN_S, GroupThread, ThreadGroup, end_process, failure_line
from xdpcap.net import Link
from xdpcap.options.record import RecordOptions
from xdpcap.record.attachment import Attachment
from xdpcap.record.capture import Capture, SharedLimit
from xdpcap.record.file_chain import TAIL_BYTES, Chain
from xdpcap.record.ledger import QueueAccount
from xdpcap.record.worker import Worker
from xdpcap.savefile.sink import FileSink, StreamLock

# In generic mode a packet may still be in the program when the detach returns; it is
# through within a scheduler tick.
SETTLE_S = 0.004


class Output(Protocol):
    """Where records go: how to make a queue's chain of files."""

    @property
    def stream_lock(self) -> StreamLock | None: ...
    def make_chain(self, interface: str, queue: int, limit: SharedLimit | None) -> Chain: ...


class InterfaceRecorder:
    """Records `queues` of one interface until stop().

    `limit` is shared with other interfaces; `notify` is called from worker threads when
    the session should look.  Raises XdpcapError with nothing left behind.
    """

    def __init__(
        self,
        options: RecordOptions,
        attachment: Attachment,
        interface_id: int,
        output: Output,
        *,
        limit: SharedLimit | None,
        notify: Callable[[], None],
    ) -> None:
        self.attachment = attachment
        self.workers: list[Worker] = []
        # A worker did not end in time: it still uses its rings and blocks.
        self.hung = False
        self.closed = False
        self._options = options
        self._output = output
        self._limit = limit
        self._notify = notify
        self._chains: list[Chain] = []
        self._group = ThreadGroup(notify)
        self._threads: list[GroupThread] = []
        try:
            for number, queue in enumerate(attachment.queues):
                chain = output.make_chain(attachment.link.name, queue, limit)
                self._chains.append(chain)
                worker = self._worker(number, queue, interface_id, chain)
                self.workers.append(worker)
                self._threads.append(
                    self._group.add(
                        worker.name, worker.run, stop=worker.request_stop, failed=worker.fail
                    )
                )
        except BaseException:
            self.discard()
            raise

    @property
    def link(self) -> Link:
        """The interface as it was at the start."""
        return self.attachment.link

    def _worker(self, number: int, queue: int, interface_id: int, chain: Chain) -> Worker:
        options = self._options
        chain.open_first(self._make_sink)
        assert chain.sink is not None
        source, clock = self.attachment.source(queue), self.attachment.clock
        rotate_size = options.rotate_size_bytes or 0
        capture = Capture(
            source,
            chain.sink,
            format=options.format,
            snaplen=options.snaplen,
            interface_id=interface_id if options.to_stdout else 0,
            clock=self.attachment.variant.clock,
            hash_algorithm=self.attachment.metadata.hash_algorithm,
            device_clock=0 if clock is None else clock.id,
            device_time=self.attachment.metadata.time.in_device_time,
            batch=min(options.batch, source.rx_size),
            flush_interval_s=options.flush_interval_s,
            rotate_size=max(rotate_size - TAIL_BYTES, 1) if rotate_size else 0,
            rotate_packets=options.rotate_packets or 0,
            busy_poll=options.busy_poll,
            limit=self._limit,
        )
        cpu = options.cpus[number % len(options.cpus)] if options.cpus else None
        return Worker(self.attachment, queue, capture, chain, cpu=cpu, notify=self._notify)

    def _make_sink(self, mode: str) -> FileSink:
        size, count = self._options.blocks(disk=mode not in ("sync", "stream"))
        return FileSink(size, count, mode, self._output.stream_lock)

    def start(self) -> None:
        """Start the workers, then let packets come."""
        self._group.start()
        self.attachment.start()

    def renew(self) -> str | None:
        """Say for --dead-man that the control thread lives; a line when it was silent before."""
        lapse = self.attachment.renew()
        return lapse and f"{self.link.name}: {lapse}"

    def rotate(self) -> None:
        """Every queue goes on in a new file."""
        for worker in self.workers:
            worker.request_rotation()

    @property
    def errors(self) -> list[str]:
        """What went wrong in the workers, one line each."""
        return [f"{self.link.name}: {w.error}" for w in self.workers if w.error]

    @property
    def limit_reached(self) -> bool:
        """Whether a worker has been refused a packet by the shared limit."""
        return any(worker.limit_reached for worker in self.workers)

    def accounts(self, *, final: bool = False) -> list[QueueAccount]:
        """The rows of this interface's queues."""
        self.attachment.ask_missed()
        return [worker.account(final=final) for worker in self.workers]

    def detach(self) -> None:
        """Take the program off: no further packet comes."""
        self.attachment.detach()
        self.attachment.ask_missed()

    def stop(self) -> list[str]:
        """Empty rings and blocks after detach(); returns what could not be done."""
        if any(thread.running for thread in self._threads):
            time.sleep(SETTLE_S)
        running = self._group.stop(JOIN_S)
        self.hung = bool(running)
        problems = []
        for worker, thread in zip(self.workers, self._threads, strict=True):
            if thread in running:
                problems.append(
                    f"{self.link.name}: queue {worker.queue} does not stop; is the disk stuck?"
                )
            elif not thread.started:
                worker.discard()
            elif worker.disk_stuck:
                problems.append(f"{self.link.name}: the disk did not take the last blocks in time")
        return problems

    def abort(self) -> list[str]:
        """End what an exception has left running; returns what went wrong, nothing if it had ended.

        When a worker hangs the process ends here.
        """
        if self.closed:
            return []
        problems: list[str] = []
        try:
            try:
                self.detach()
            except BaseException as exc:
                # The workers must end all the same, before their rings are unmapped.
                problems.append(failure_line(exc))
            problems += self.stop() + self.errors
        finally:
            if self._group.running:
                end_process(problems)
        self.close()
        return problems

    def discard(self) -> None:
        """Undo the making of a recorder that was never started: no empty file stays."""
        self.closed = True
        for chain in self._chains:
            chain.discard()
        # Their loops hold the sockets, which close next.
        for worker in self.workers:
            worker.close()

    def close(self) -> None:
        """Free everything; after stop().  What a hung worker uses is left to the process's end."""
        if self.hung:
            return
        self.closed = True
        for worker in self.workers:
            worker.close()
        self.attachment.close()
