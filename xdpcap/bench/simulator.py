"""A recorder of packets that are made in memory: the loop, the encoder, the files, no interface.

Owner: the session; each `SimulatedWorker` is a thread of its own, and the closer of the files
another.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from xdpcap.bench.simulated_rings import Simulation
from xdpcap.host.stage_times import StageTimes
from xdpcap.host.threads import GroupThread, ThreadGroup, end_process, failure_line
from xdpcap.options.bench_record import BenchRecordOptions, Sizes
from xdpcap.options.frame_sizes import chosen_frame
from xdpcap.packets import build
from xdpcap.record import capture
from xdpcap.record.file_chain import Closer, FileChain
from xdpcap.record.ledger import QueueAccount
from xdpcap.record.worker import DISK_WAIT_S, write_error
from xdpcap.savefile import headers
from xdpcap.savefile.directory import Directory
from xdpcap.savefile.names import PART_SUFFIX, NameTemplate
from xdpcap.savefile.sink import FileSink

COMMENT = "made in memory by `xdpcap bench record --simulate capture`"
DISCARD_PORT = 9
# Of Ethernet, IPv4 and UDP.
HEADER_BYTES = 42
# Locally administered, and TEST-NET-1 (RFC 5737).
MACS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
ENDS = bytes((192, 0, 2, 2)), bytes((192, 0, 2, 1))


def spread(sizes: Sizes) -> list[int]:
    """One round of a mix, each size spread over it as evenly as its weight allows."""
    debts = [0] * len(sizes)
    whole = sum(weight for _, weight in sizes)
    order = []
    for _ in range(whole):
        debts = [debt + weight for debt, (_, weight) in zip(debts, sizes, strict=True)]
        most = max(range(len(sizes)), key=debts.__getitem__)
        debts[most] -= whole
        order.append(sizes[most][0])
    return order


def header(size: int) -> bytes:
    """Ethernet, IPv4 and UDP of `size` bytes; the UDP checksum is left out (RFC 768)."""
    datagram = build.udp((DISCARD_PORT, DISCARD_PORT), bytes(size - HEADER_BYTES))
    packet = build.ip(ENDS, build.PROTOCOL_UDP, datagram)
    return build.ethernet(*MACS, build.ETHERTYPE_IPV4, packet, pad=False)[:HEADER_BYTES]


class SimulatedWorker:
    """Records one queue's made packets in a thread of its own."""

    def __init__(
        self,
        options: BenchRecordOptions,
        queue: int,
        chain: FileChain,
        *,
        cpu: int | None,
        notify: Callable[[], None],
    ) -> None:
        self.queue = queue
        self.stages = StageTimes()
        self.error: str | None = None
        self.disk_stuck = False
        self._options = options.record_options(options.output)
        self._chain = chain
        self._cpu = cpu
        self._notify = notify
        chain.open_first(self._make_sink)
        assert chain.sink is not None
        self._sink = chain.sink
        self._sink.measure(self.stages)
        frame_size = chosen_frame(options.frame_size)
        self._simulation = Simulation(
            self._sink,
            [(size, header(size)) for size in spread(options.mix)],
            format=options.format,
            queue=queue,
            ring_size=self._options.ring_size_for(frame_size),
            frame_size=frame_size,
        )
        chain.account = self.account
        self.name = f"{options.source}-q{queue}"

    def _make_sink(self, mode: str) -> FileSink:
        size, count = self._options.blocks(disk=mode in ("direct", "buffered"))
        return FileSink(size, count, mode)

    @property
    def in_memory(self) -> bool:
        """Whether the files lie in memory."""
        return self._sink.mode == "sync"

    def request_stop(self) -> None:
        """Record what has been made, then end."""
        self._simulation.request_stop()

    def account(self, *, final: bool = False) -> QueueAccount:
        """This queue's row of the ledger."""
        row = QueueAccount(self._options.interfaces[0], self.queue)
        row.written, row.bytes_written, row.write_dropped, row.bytes_to_disk = self._sink.counters
        row.received = self._simulation.received
        row.bytes_received = self._simulation.received_bytes
        row.redirected = self._simulation.made
        if final:
            # With a stuck disk the end came before the ring was empty.
            row.write_dropped += row.redirected - row.received
            row.received = row.redirected
        row.attach_mode = "simulated"
        row.files = self._chain.file_count
        return row.settle(final=final)

    def run(self) -> None:
        """Record until request_stop(); the thread's whole life."""
        try:
            if self._cpu is not None:
                os.sched_setaffinity(0, {self._cpu})
            self._record()
        except BaseException as exc:
            # Whatever it is, the session must hear of it and the file be finished.
            self.fail(failure_line(exc))
        finally:
            self._finish()

    def _record(self) -> None:
        while (reason := self._simulation.run()) != capture.STOPPED:
            if reason == capture.WRITE_FAILED:
                # What comes until the stop is counted as write_dropped.
                path = self._chain.current_path.removesuffix(PART_SUFFIX)
                self.fail(write_error(path, self._sink.current_error))
            else:
                self._chain.collect()

    def _finish(self) -> None:
        self.disk_stuck = not self._chain.close(DISK_WAIT_S)
        if self.disk_stuck:
            self._sink.abandon()
        if self._chain.failure is not None:
            self.fail(write_error(*self._chain.failure))

    def fail(self, text: str) -> None:
        if self.error is None:
            self.error = text
        self._notify()

    def close(self) -> None:
        """Free the loop and the blocks; after join()."""
        self._simulation.close()
        if not self.disk_stuck:
            self._sink.close()


class SimulatedRecorder:
    """Workers that record made packets into a directory, one a queue."""

    # A worker did not end in time: it still uses its rings and blocks.
    hung = False

    def __init__(
        self, options: BenchRecordOptions, directory: str, notify: Callable[[], None]
    ) -> None:
        self._options = options
        self._names = NameTemplate(
            options.record_options(directory).name_template, ext=options.format
        )
        self._directory = Directory(directory, report=self._report)
        self._closer = Closer(self._directory)
        self._told: list[str] = []
        self._completed = False
        self.workers: list[SimulatedWorker] = []
        self._chains: list[FileChain] = []
        self._group = ThreadGroup(notify)
        self._threads: list[GroupThread] = []
        try:
            for number, queue in enumerate(options.queues or (0,)):
                cpu = options.cpus[number % len(options.cpus)] if options.cpus else None
                chain = self._chain(queue)
                self._chains.append(chain)
                worker = SimulatedWorker(options, queue, chain, cpu=cpu, notify=notify)
                self.workers.append(worker)
                self._threads.append(
                    self._group.add(
                        worker.name, worker.run, stop=worker.request_stop, failed=worker.fail
                    )
                )
        except BaseException:
            for chain in self._chains:
                chain.discard()
            self._closer.close()
            raise

    def _report(self, text: str) -> None:
        self._told.append(text)

    def _chain(self, queue: int) -> FileChain:
        options = self._options
        return FileChain(
            self._directory,
            self._closer,
            make_name=lambda start_ns, n: self._names.render(options.source, queue, start_ns, n),
            header=_file_header(options),
            with_statistics=options.format == "pcapng",
            limit=None,
        )

    def start(self) -> None:
        """Begin to record."""
        self._group.start()

    def stop(self) -> list[str]:
        """Record what has been made, then end; returns what went wrong.

        No empty file stays of a worker that was never started.
        """
        running = self._group.stop()
        self.hung = bool(running)
        for chain, thread in zip(self._chains, self._threads, strict=True):
            if not thread.started:
                chain.discard()
        problems = [f"{thread.name} does not stop; is the disk stuck?" for thread in running]
        return problems + [worker.error for worker in self.workers if worker.error]

    def abort(self) -> list[str]:
        """End what an exception has left running; returns what went wrong, nothing if it had ended.

        When a worker hangs the process ends here.
        """
        if self._completed:
            return []
        problems: list[str] = []
        try:
            problems += self.stop()
        finally:
            if self._group.running:
                end_process(problems)
        return problems + self.complete()

    def complete(self) -> list[str]:
        """Complete the files, after the workers have ended; returns what went wrong."""
        if not self._completed:
            self._completed = True
            self._closer.close()
            self._directory.close()
        return self._told + self._closer.errors

    @property
    def files(self) -> list[dict[str, object]]:
        """The complete files."""
        return [
            {"path": file.path, "packets": file.packets, "bytes": file.bytes}
            for file in self._directory.files
        ]


def _file_header(options: BenchRecordOptions) -> bytes:
    if options.format == "pcap":
        return headers.pcap_header(0)
    section = headers.section_header(
        headers.host_hardware(), headers.host_os(), headers.APPLICATION
    )
    return section + headers.interface_block(snaplen=0, name=options.source, comments=[COMMENT])
