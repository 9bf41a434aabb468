"""`python -m benchmarks.replay_speed`: the rate and the timing accuracy of replays.

Measured through a veth pair in private namespaces, and compared with the bare sending loop, a
loop that only reads the clock, and tcpreplay.  docs/performance.md explains the method.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import machine
from benchmarks.measure import Cpus
from benchmarks.memory import WarmMemory
from benchmarks.record_speed import ROOT, cpus_to_use
from benchmarks.recorders import BenchmarkError
from benchmarks.recording_peers import missing
from benchmarks.scratch import sweep
from benchmarks.sending import programs
from benchmarks.sending.gaps import CLOCK, measure_clock, measure_gaps, packets_at
from benchmarks.sending.programs import TCPREPLAY, Sender
from benchmarks.sending.rate import MEMORY, measure_rate
from benchmarks.sending.report import Report, load
from benchmarks.sending.results import GapSample, RateSample, Samples
from xdpcap.bench.lab import namespaces
from xdpcap.errors import UsageError, XdpcapError

SIZES = {"send-64": 60, "send-1514": 1514}
RATES = {"gaps-10k": 10_000, "gaps-100k": 100_000}
# The recordings of the paced runs, and the memory of the processes.
WARM_BYTES = 512 << 20


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True,
              help="Rounds of all rows.")  # fmt: skip
@click.option("--only", multiple=True, type=click.Choice([*SIZES, *RATES]),
              help="A scenario; may be given more than once.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path),
              default=ROOT / "build" / "bench" / "replay.json",
              help="JSON file of all samples; by default build/bench/replay.json.")  # fmt: skip
@click.option("--markdown", is_flag=True, help="Print the report as Markdown.")
@click.option("--from", "source", type=click.Path(path_type=Path, exists=True),
              help="Print the report of an earlier run instead of measuring.")  # fmt: skip
def main(source: Path | None, markdown: bool, **options: Any) -> None:
    """Measure the rate and the timing accuracy of replays, their limits and tcpreplay."""
    try:
        report = load(source) if source else _measure(**options)
    except XdpcapError as exc:
        click.echo(f"replay_speed: {exc}", err=True)
        sys.exit(exc.exit_code)
    if markdown:
        click.echo(report.markdown)
    else:
        report.show(Console())


def _measure(rounds: int, only: tuple[str, ...], output: Path) -> Report:
    if os.geteuid() != 0:
        raise UsageError("namespaces and XDP need root; run with sudo")
    if packages := missing([TCPREPLAY]):
        raise UsageError(f"{', '.join(packages)} is not installed; apt-get install it")
    # The first CPU serves most interrupts: the sender, whose timing is measured, has the other.
    first = cpus_to_use()
    cpus = Cpus(sender=first.recorder, recorder=first.sender)
    layout = f"sender on CPU {cpus.sender}, receiver on CPU {cpus.recorder}, one queue"
    report = Report(machine.describe() | {"layout": layout}, [], [])
    # This process runs on the receiver's CPU, which has time to spare.
    os.sched_setaffinity(0, {cpus.recorder})
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    namespaces.sweep()
    sweep(MEMORY)
    with WarmMemory(WARM_BYTES):
        for name, size in SIZES.items():
            if not only or name in only:
                rates: Samples[RateSample] = Samples(name, size)
                report.rates.append(rates)
                _rate_rounds(rates, rounds, cpus)
                report.save(output)
        for name, pps in RATES.items():
            if not only or name in only:
                gaps: Samples[GapSample] = Samples(name, pps)
                report.gaps.append(gaps)
                _gap_rounds(gaps, rounds, cpus)
                report.save(output)
    _tell(f"samples are in {output}")
    return report


def _rate_rounds(result: Samples[RateSample], rounds: int, cpus: Cpus) -> None:
    """Run the rounds: bare loop, row, bare loop, row, ..., bare loop."""
    senders = [programs.ours_at_top_speed(), *programs.tcpreplays_at_top_speed()]
    for number in range(1, rounds + 1):

        def one(sender: Sender, number: int = number) -> RateSample:
            sample = measure_rate(sender, result.load, cpus, number)
            sample.reference_pps = sample.pps
            result.samples.append(sample)
            _tell(f"{result.name}: round {number}: {sender.name}: {sample.pps / 1e6:.3f} Mpps")
            return sample

        before = one(programs.bare())
        for sender in senders:
            if sender.name in result.failures:
                continue
            try:
                sample = one(sender)
            except BenchmarkError as exc:
                _leave_out(result, sender.name, exc)
                continue
            after = one(programs.bare())
            sample.reference_pps = (before.pps + after.pps) / 2
            before = after


def _gap_rounds(result: Samples[GapSample], rounds: int, cpus: Cpus) -> None:
    pps = result.load
    count = packets_at(pps)
    senders = [programs.ours_at(pps, count), *programs.tcpreplays_at(pps, count)]
    rows: dict[str, Callable[[int], GapSample]] = {CLOCK: partial(measure_clock, pps, cpus)}
    for sender in senders:
        rows[sender.name] = partial(measure_gaps, sender, pps, cpus)
    for number in range(1, rounds + 1):
        for name, measure in rows.items():
            if name in result.failures:
                continue
            try:
                sample = measure(number)
            except BenchmarkError as exc:
                _leave_out(result, name, exc)
                continue
            result.samples.append(sample)
            figures = f"p50 {sample.p50_ns:.0f} ns, p99 {sample.p99_ns:.0f} ns"
            _tell(f"{result.name}: round {number}: {name}: {figures}")


def _leave_out(result: Samples[Any], name: str, why: BenchmarkError) -> None:
    result.failures[name] = str(why)
    _tell(f"{result.name}: {name} is left out: {why}")


def _tell(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
