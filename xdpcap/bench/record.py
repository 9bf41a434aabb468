"""Measure where the recorder's time goes: the order of set-up and tear-down, and nothing else.

The recorder is the real one (`record.interface`), or its loop on packets made in memory
(`simulator`). The workers' clocks (`host.stage_times`) measure; `stages` adds up.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xdpcap import net
from xdpcap.bench.discard import DiscardOutput
from xdpcap.bench.record_report import make_bench_report
from xdpcap.bench.simulator import SimulatedRecorder
from xdpcap.bench.stages import StageAccount
from xdpcap.errors import UsageError, XdpcapError
from xdpcap.host import kernel, privileges
from xdpcap.host.stage_times import StageTimes
from xdpcap.host.threads import end_process
from xdpcap.host.wakeups import Wakeups
from xdpcap.net import netns
from xdpcap.options.bench_record import BenchRecordOptions
from xdpcap.options.record import RecordOptions
from xdpcap.options.units import KIB, MIB, format_bytes
from xdpcap.record.attachment import Attachment, require_memory
from xdpcap.record.interface import InterfaceRecorder
from xdpcap.record.ledger import QueueAccount
from xdpcap.record.outputs import Described, DirectoryOutput
from xdpcap.record.worker import Worker
from xdpcap.savefile.directory import check_directory

# How often it is looked whether there is still room for the files, and how much there must
# be: a disk takes 200 MB meanwhile.
LOOK_S = 0.1
ROOM_BYTES = 512 * MIB


def bench_record_session(
    options: BenchRecordOptions, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Record for `options.duration_s`, or until a signal; the report.

    `tell` takes lines for people.  Raises XdpcapError when it can't begin; what goes wrong
    later is in the report's `problems`.
    """
    options.validate()
    with contextlib.ExitStack() as stack:
        measured = _simulated if options.simulates_packets else _recorded
        return measured(options, tell, stack)


# ---------------------------------------------------------------- the files


@contextlib.contextmanager
def _place(options: BenchRecordOptions, tell: Callable[[str], None]) -> Iterator[str]:
    """The directory to write files into; one of our own that goes again, unless they stay."""
    check_directory(options.output)
    if options.keep:
        yield options.output
        return
    path = tempfile.mkdtemp(prefix="xdpcap-bench-", dir=options.output)
    try:
        yield path
    finally:
        try:
            shutil.rmtree(path)
        except OSError as exc:
            tell(f"{path}: can't be removed: {exc.strerror}")


def _room_bytes(directory: str, in_memory: bool) -> int:
    """What may still be written, to a disk or to memory."""
    status = os.statvfs(directory)
    room = status.f_bavail * status.f_frsize
    if in_memory:
        with open("/proc/meminfo") as text:
            known = dict(line.split(":", 1) for line in text)
        room = min(room, int(known["MemAvailable"].split()[0]) * KIB)
    return room


def _require_room(directory: str, in_memory: bool) -> None:
    room = _room_bytes(directory, in_memory)
    if room < ROOM_BYTES:
        raise XdpcapError(
            f"{directory}: only {format_bytes(room)} free; a measurement begins with "
            f"{format_bytes(ROOM_BYTES)} or more"
        )


class _Watch:
    """Waits out the time of a measurement."""

    def __init__(
        self, options: BenchRecordOptions, wakeups: Wakeups, tell: Callable[[str], None]
    ) -> None:
        self._options = options
        self._wakeups = wakeups
        self._tell = tell

    def wait(self, over: Callable[[], bool], directory: str | None, in_memory: bool) -> None:
        """Return when the time is up, after a signal, when `over` says so or room runs out."""
        begun = time.monotonic()
        while not self._wakeups.stopped and not over():
            left_s = begun + self._options.duration_s - time.monotonic()
            if left_s <= 0:
                return
            self._wakeups.wait(min(left_s, LOOK_S))
            if directory is not None and _room_bytes(directory, in_memory) < ROOM_BYTES:
                elapsed_s = time.monotonic() - begun
                self._tell(f"{self._options.output} is nearly full: ended after {elapsed_s:.1f} s")
                return


def _accounts(workers: Sequence[Any]) -> list[tuple[int, StageAccount]]:
    """Each worker's queue and account."""
    found = []
    for worker in workers:
        times: StageTimes = worker.stages
        found.append((worker.queue, StageAccount.of(times.readings)))
    return found


# ---------------------------------------------------------------- packets made in memory


def _simulated(
    options: BenchRecordOptions, tell: Callable[[str], None], stack: contextlib.ExitStack
) -> dict[str, Any]:
    require_memory(options.record_options(options.output), len(options.queues or (0,)))
    directory = stack.enter_context(_place(options, tell))
    wakeups = stack.enter_context(Wakeups())
    recorder = SimulatedRecorder(options, directory, wakeups.notify)
    stack.callback(_abort, recorder, tell)
    workers = recorder.workers
    in_memory = any(worker.in_memory for worker in workers)
    _require_room(directory, in_memory)
    recorder.start()
    watch = _Watch(options, wakeups, tell)
    watch.wait(lambda: any(worker.error for worker in workers), directory, in_memory)
    problems = recorder.stop()
    rows = [worker.account(final=True) for worker in workers]
    problems += recorder.complete()
    report = make_bench_report(
        options, rows, _accounts(workers), files=recorder.files, problems=problems
    )
    if recorder.hung:
        end_process(report["problems"])
    for worker in workers:
        worker.close()
    return report


# ---------------------------------------------------------------- packets of an interface


def _recorded(
    options: BenchRecordOptions, tell: Callable[[str], None], stack: contextlib.ExitStack
) -> dict[str, Any]:
    kernel.require((4, 18), "AF_XDP")
    kernel.require_af_xdp()
    if options.netns is not None:
        netns.enter(options.netns)
    privileges.require(options.umem_size_bytes)
    privileges.raise_memlock()
    link = _admit(options)
    directory = stack.enter_context(_place(options, tell)) if options.writes else ""
    output = _open_output(options, directory, link, tell)
    stack.callback(output.close)
    wakeups = stack.enter_context(Wakeups())
    recorder = _make_recorder(options.record_options(directory), link, output, wakeups, stack)
    # Unwound before the attachment is: a worker must not outlive its rings.
    stack.callback(_abort, recorder, tell)
    in_memory = any(worker.in_memory for worker in recorder.workers)
    if options.writes:
        _require_room(directory, in_memory)
    for worker in recorder.workers:
        worker.measure()
    recorder.start()
    tell(f"measuring {link.name} for {options.duration_s:g} s; Ctrl-C ends it early")
    watch = _Watch(options, wakeups, tell)
    watch.wait(lambda: bool(recorder.errors), directory or None, in_memory)
    report = _finish(options, recorder, output)
    if recorder.hung:
        end_process(report["problems"])
    return report


def _open_output(
    options: BenchRecordOptions, directory: str, link: net.Link, tell: Callable[[str], None]
) -> DirectoryOutput | DiscardOutput:
    queues = net.choose_queues(link.name, options.queues)
    require_memory(options.record_options(directory), len(queues))
    if not options.writes:
        return DiscardOutput()
    sources = [(link.name, queue) for queue in queues]
    return DirectoryOutput(options.record_options(directory), sources, tell)


def _make_recorder(
    options: RecordOptions,
    link: net.Link,
    output: DirectoryOutput | DiscardOutput,
    wakeups: Wakeups,
    stack: contextlib.ExitStack,
) -> InterfaceRecorder:
    # Read before attaching: virtio_net shows more queues while a program is on.
    queue_count = net.rx_queue_count(link.name)
    queues = net.choose_queues(link.name, options.queues)
    stack.enter_context(net.Promiscuous(link.name))
    attachment = Attachment(options, link, queues, queue_count)
    stack.callback(attachment.close)
    if isinstance(output, DirectoryOutput):
        output.describe([Described(link, attachment.comments, attachment.tsoffset_s)])
    return InterfaceRecorder(options, attachment, 0, output, limit=None, notify=wakeups.notify)


def _abort(recorder: InterfaceRecorder | SimulatedRecorder, tell: Callable[[str], None]) -> None:
    """End what an exception has left running; nothing when it has ended."""
    for problem in recorder.abort():
        tell(problem)


def _admit(options: BenchRecordOptions) -> net.Link:
    """The interface, unless recording it would do harm."""
    link = net.get_link(options.interface)
    if not options.force:
        reason = net.refusal(link.name)
        if reason is not None:
            raise UsageError(reason)
    net.require_up(link, options.netns)
    return link


def _finish(
    options: BenchRecordOptions,
    recorder: InterfaceRecorder,
    output: DirectoryOutput | DiscardOutput,
) -> dict[str, Any]:
    """Stop in the order that loses nothing; the report."""
    recorder.detach()
    problems = recorder.stop() + recorder.errors
    rows: list[QueueAccount] = recorder.accounts(final=True)
    workers: list[Worker] = recorder.workers
    accounts = _accounts(workers)
    recorder.close()
    problems += output.finish(rows)
    return make_bench_report(options, rows, accounts, files=list(output.files), problems=problems)
