"""`python -m benchmarks.tuning -- OPTIONS...`: the effect of options of `xdpcap record`.

Each argument is one set of options, "" for none; the others are compared with the first. Each
round measures all sets, with the benchmark's own lab and load.

    python -m benchmarks.tuning --size 60 -- "" "--ring-size 2048" "--busy-poll"
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from benchmarks import machine
from benchmarks.measure import Sample, Scenario, Task, measure
from benchmarks.memory import WarmMemory
from benchmarks.noise import Finding, compare, floor_of, summarize
from benchmarks.record_speed import COUNTS, OTHER_MEMORY_BYTES, cpus_to_use
from benchmarks.recorders import Recorder, xdpcap
from benchmarks.scratch import sweep
from benchmarks.sheets import Sheet, as_markdown, cell, machine_lines, print_sheets
from xdpcap.bench.lab import namespaces
from xdpcap.errors import UsageError, XdpcapError

COLUMNS = ("options", "recorded\nMpps", "times the\nfirst", "lost", "recorder CPU\nns/packet",
           "machine CPU\nns/packet", "finding")  # fmt: skip
WORDS = {Finding.MORE: "faster", Finding.LESS: "slower", Finding.NOISE: str(Finding.NOISE)}


@click.command()
@click.argument("sets", nargs=-1, required=True)
@click.option("--size", type=click.Choice(["60", "1514"]), default="60", show_default=True)
@click.option("--format", "file_format", type=click.Choice(["pcapng", "pcap"]), default="pcapng")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--count", type=click.IntRange(1), help="Packets per run.")
@click.option("--directory", type=click.Path(path_type=Path, exists=True),
              default=Path("/dev/shm"), show_default=True)  # fmt: skip
@click.option("--markdown", is_flag=True)
def main(
    sets: tuple[str, ...],
    size: str,
    file_format: str,
    *,
    rounds: int,
    count: int | None,
    directory: Path,
    markdown: bool,
) -> None:
    """Compare sets of options of `xdpcap record` with each other."""
    try:
        packets = count or COUNTS[int(size)]
        memory = machine.file_system(directory) == "tmpfs"
        scenario = Scenario("tuning", int(size), packets, memory, directory, Path("/dev/shm"))
        samples = _measure(sets, file_format, scenario, rounds)
    except XdpcapError as exc:
        click.echo(f"tuning: {exc}", err=True)
        sys.exit(exc.exit_code)
    about = machine.describe() | {"layout": f"{packets:,} frames of {size} bytes to {directory}"}
    lines = machine_lines(about, [sample.machine for sample in samples])
    sheet = _sheet(sets, samples)
    if markdown:
        click.echo(as_markdown(lines, [sheet]))
    else:
        print_sheets(Console(), lines, [sheet])


def _measure(
    sets: Sequence[str], file_format: str, scenario: Scenario, rounds: int
) -> list[Sample]:
    if len(set(sets)) < len(sets):
        raise UsageError("a set of options is given twice; give each once")
    cpus = cpus_to_use()
    recorders: list[Recorder] = [
        xdpcap(file_format, shlex.split(options), _name(options)) for options in sets
    ]
    os.sched_setaffinity(0, {cpus.sender})
    namespaces.sweep()
    sweep(scenario.directory)
    samples = []
    with WarmMemory(2 * scenario.file_bytes + OTHER_MEMORY_BYTES):
        for number in range(1, rounds + 1):
            # The first one twice: its difference from itself is the noise.
            for recorder in (*recorders, recorders[0]):
                sample = measure(recorder, Task(scenario, cpus, number))
                samples.append(sample)
                figures = f"{sample.pps / 1e6:.3f} Mpps, {sample.lost} lost"
                click.echo(f"round {number}: {recorder.name}: {figures}", err=True)
    return samples


def _name(options: str) -> str:
    return options or "defaults"


def _sheet(sets: Sequence[str], samples: Sequence[Sample]) -> Sheet:
    first = _name(sets[0])
    own = [sample for sample in samples if sample.row == first]
    pairs = zip(own[::2], own[1::2], strict=True)
    floor = floor_of([abs(b.pps / a.pps - 1) for a, b in pairs])
    reference = {sample.round: sample.pps for sample in own}
    rows = []
    for name in map(_name, sets):
        mine = [sample for sample in samples if sample.row == name]
        ratios = [sample.pps / reference[sample.round] for sample in mine]
        lost = summarize([sample.lost / sample.sent for sample in mine])
        rows.append(
            (
                name,
                cell(summarize([sample.pps / 1e6 for sample in mine]), ".3f"),
                "" if name == first else cell(summarize(ratios), ".2f"),
                "none" if lost.high == 0 else cell(lost, ".1%"),
                cell(summarize([sample.cpu_ns for sample in mine]), ".0f"),
                cell(summarize([sample.machine_ns for sample in mine]), ".0f"),
                "" if name == first else WORDS[compare(ratios, floor)],
            )
        )
    note = f"Noise floor, {first} compared with itself: {floor:.1%}."
    return Sheet("Options of xdpcap record", COLUMNS, tuple(rows), (note,))


if __name__ == "__main__":
    main()
