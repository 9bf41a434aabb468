"""`python -m benchmarks.record_speed`: the recorder's speed, its limit and other recorders'.

One CPU sends frames at full rate through a veth pair in private namespaces to a recorder on the
other CPU.  docs/performance.md explains the method and how to read the results.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import machine, report
from benchmarks.fio import NAME as FIO
from benchmarks.measure import Cpus, Scenario
from benchmarks.memory import WarmMemory
from benchmarks.recorders import DROP_LOOP, Recorder, xdpcap
from benchmarks.recording_peers import missing, peers
from benchmarks.results import Results
from benchmarks.rounds import Plan, Runner, measures
from benchmarks.scratch import sweep
from xdpcap.bench.lab import namespaces
from xdpcap.errors import UsageError, XdpcapError
from xdpcap.options.units import UnitError, parse_count

ROOT = Path(__file__).resolve().parent.parent
MEMORY_TYPES = ("tmpfs", "ramfs")
# Packets per run: two to three seconds of load on a core of 2025.
COUNTS = {60: 6_000_000, 1514: 3_000_000}
# Memory beside the files: sockets, rings and processes.
OTHER_MEMORY_BYTES = 512 << 20


@click.command()
@click.option(
    "--rounds",
    "round_count",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Rounds of all rows; noisy ones get at most as many again.",
)
@click.option("--count", help="Packets per run, such as 500k; by default 6M small, 3M large.")
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="A scenario or a recorder; may be given more than once.",
)
@click.option(
    "--noise",
    "noise_bound",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Relative spread above which a row is repeated.",
)
@click.option(
    "--tmpfs",
    "memory_directory",
    type=click.Path(path_type=Path, exists=True),
    default=Path("/dev/shm"),
    show_default=True,
    help="A directory on a memory file system.",
)
@click.option(
    "--disk",
    "disk_directory",
    type=click.Path(path_type=Path),
    default=ROOT / "build" / "bench",
    help="A directory on a disk; by default build/bench.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=ROOT / "build" / "bench" / "record.json",
    help="JSON file of all samples; by default build/bench/record.json.",
)
@click.option("--markdown", is_flag=True, help="Print the report as Markdown.")
@click.option("--from", "source", type=click.Path(path_type=Path, exists=True),
              help="Print the report of an earlier run instead of measuring.")  # fmt: skip
def main(source: Path | None, markdown: bool, **options: Any) -> None:
    """Measure the recorder at full load, its limit and other recorders."""
    try:
        about, results = report.load(source) if source else _measure(Options(**options))
    except XdpcapError as exc:
        click.echo(f"record_speed: {exc}", err=True)
        sys.exit(exc.exit_code)
    if markdown:
        click.echo(report.markdown(about, results))
    else:
        report.print_report(Console(), about, results)


@dataclass(frozen=True)
class Options:
    """The command line's options."""

    round_count: int
    count: str | None
    only: tuple[str, ...]
    noise_bound: float
    memory_directory: Path
    disk_directory: Path
    output: Path


def _measure(options: Options) -> tuple[dict[str, Any], list[Results]]:
    cpus = cpus_to_use()
    scenarios = _scenarios(options)
    recorders = [xdpcap("pcapng"), xdpcap("pcap"), *peers()]
    scenarios, recorders, fio = _choose(options.only, scenarios, recorders)
    _check(scenarios, recorders)
    about = machine.describe() | {"layout": _layout(cpus, scenarios)}
    plan = Plan(cpus, options.round_count, options.noise_bound)
    # This process runs on the sender's CPU.
    os.sched_setaffinity(0, {cpus.sender})
    # A process that is terminated ends its recorder, and removes its lab and files.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    namespaces.sweep()
    for directory in {scenario.directory for scenario in scenarios}:
        sweep(directory)
    results = []
    need = 2 * max(scenario.file_bytes for scenario in scenarios) + OTHER_MEMORY_BYTES
    _tell(f"warming {need >> 20} MiB of memory")
    with WarmMemory(need):
        for scenario in scenarios:
            rows = measures(recorders, fio=fio)
            results.append(Runner(scenario, rows, plan, _tell).run())
            report.save(options.output, about, results)
    _tell(f"samples are in {options.output}")
    return about, results


def _scenarios(options: Options) -> list[Scenario]:
    count = _count(options.count)
    memory, disk = options.memory_directory, options.disk_directory
    disk.mkdir(parents=True, exist_ok=True)

    def scenario(name: str, size: int, *, in_memory: bool) -> Scenario:
        packets = count or COUNTS[size]
        directory = memory if in_memory else disk
        return Scenario(name, size, packets, in_memory, directory, memory)

    return [
        scenario("64-memory", 60, in_memory=True),
        scenario("1514-memory", 1514, in_memory=True),
        scenario("1514-disk", 1514, in_memory=False),
    ]


def _count(text: str | None) -> int | None:
    try:
        count = None if text is None else parse_count(text)
    except UnitError as exc:
        raise UsageError(f"--count: {exc}") from None
    if count == 0:
        raise UsageError("--count 0: nothing would be sent; leave it out for the defaults")
    return count


def _choose(
    only: tuple[str, ...], scenarios: list[Scenario], recorders: list[Recorder]
) -> tuple[list[Scenario], list[Recorder], bool]:
    """Apply `--only`; a kind of which nothing is named stays complete."""
    places = {scenario.name for scenario in scenarios}
    names = {recorder.name for recorder in recorders} | {FIO}
    for word in only:
        if word not in places | names | {DROP_LOOP}:
            known = ", ".join([*sorted(places), DROP_LOOP, *sorted(names)])
            raise UsageError(f"--only {word!r}: unknown; choose among {known}")
    wanted = set(only)
    if wanted & places:
        scenarios = [scenario for scenario in scenarios if scenario.name in wanted]
    fio = True
    if wanted - places:
        recorders = [recorder for recorder in recorders if recorder.name in wanted]
        fio = FIO in wanted
    return scenarios, recorders, fio


def _check(scenarios: list[Scenario], recorders: list[Recorder]) -> None:
    """Check, before measuring, for everything that would make a run fail."""
    if os.geteuid() != 0:
        raise UsageError("namespaces and XDP need root; run with sudo")
    programs = ["capinfos", FIO, *(recorder.program for recorder in recorders)]
    packages = missing([name for name in programs if not os.path.isabs(name)])
    if packages:
        raise UsageError(
            f"{', '.join(packages)} are not installed; apt-get install, or name rows with --only"
        )
    for scenario in scenarios:
        kind = machine.file_system(scenario.directory)
        if scenario.memory != (kind in MEMORY_TYPES):
            option = "--tmpfs" if scenario.memory else "--disk"
            wanted = "a memory file system" if scenario.memory else "a disk's file system"
            raise UsageError(f"{option} {scenario.directory}: {kind} is not {wanted}")
        free = shutil.disk_usage(scenario.directory).free
        if free < 1.2 * scenario.file_bytes:
            raise UsageError(
                f"{scenario.directory}: {free >> 20} MiB free, a run needs "
                f"{int(1.2 * scenario.file_bytes) >> 20}; lower --count"
            )


def cpus_to_use() -> Cpus:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise UsageError("one CPU to send and one to record are needed; only one is allowed here")
    return Cpus(sender=allowed[0], recorder=allowed[1])


def _layout(cpus: Cpus, scenarios: list[Scenario]) -> str:
    disks = {machine.file_system(s.directory) for s in scenarios if not s.memory}
    text = f"sender on CPU {cpus.sender}, recorder on CPU {cpus.recorder}, one queue, 64 MiB"
    return f"{text}; disk: {', '.join(sorted(disks))}" if disks else text


def _tell(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
