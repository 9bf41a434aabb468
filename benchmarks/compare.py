"""`python -m benchmarks.compare`: check whether a piece got slower than the stored baseline.

It compares ratios to a memcpy() of the same bytes, not seconds, which depend on what else runs
on the machine.  docs/performance.md explains how to use it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import click
from rich.console import Console

from benchmarks import baseline, parts
from benchmarks.baseline import Baseline
from benchmarks.parts import Ratio, Row
from benchmarks.sheets import Sheet, print_sheets
from xdpcap.errors import XdpcapError

# A ratio that grew by this share is worse; with larger noise nothing can be concluded.
WORSE = 0.20
NOISE = 0.20
# The rounding error of exactly 20%.
ROUNDING = 1e-9
RUNS = 6
TITLE = "Times of a memcpy() of the same bytes"
COLUMNS = ("piece", "then", "now", "change", "")

Measure = Callable[[Collection[str]], list[Row]]


class Finding(StrEnum):
    """The result for a piece."""

    SAME = ""
    WORSE = "worse"
    NOISY = "too noisy"
    NEW = "new, stored"
    NEW_NOISY = "new, too noisy to be stored"
    MISSING = "no longer measured"


@dataclass(frozen=True)
class Change:
    """A piece's ratio before and now; None where it was not measured."""

    piece: str
    then: float | None
    now: Ratio | None

    @property
    def relative(self) -> float | None:
        """The relative change: 0.25 for a ratio that is now a quarter higher."""
        return None if self.then is None or self.now is None else self.now.value / self.then - 1

    @property
    def finding(self) -> Finding:
        """The result that applies."""
        if self.now is None:
            return Finding.MISSING
        noisy = self.now.noise > NOISE
        if self.then is None:
            return Finding.NEW_NOISY if noisy else Finding.NEW
        if noisy:
            return Finding.NOISY
        change = self.relative
        assert change is not None
        return Finding.WORSE if change >= WORSE - ROUNDING else Finding.SAME


@click.command()
@click.option("--update", is_flag=True, help="Store the ratios as the new baseline.")
@click.option("--runs", type=click.IntRange(2), default=RUNS, show_default=True,
              help="Runs of all pieces; uncertain ones get as many again.")  # fmt: skip
def main(update: bool, runs: int) -> None:
    """Measure the pieces; exit 1 when one got 20% worse than in the stored baseline.

    Without a baseline of this machine one is stored.
    """
    try:
        worse = run(parts.measure, baseline.identity(), runs, update=update)
    except XdpcapError as exc:
        click.echo(f"compare: {exc}", err=True)
        sys.exit(exc.exit_code)
    sys.exit(1 if worse else 0)


def run(measure: Measure, machine: Mapping[str, str], runs: int, *, update: bool = False) -> bool:
    """Measure, compare, print, store new pieces; returns whether a piece got worse."""
    path = baseline.place(machine)
    then = None if update else baseline.load(path)
    known = then.ratios if then else {}
    now = _measured(measure, runs, known)
    changes = compared(known, now)
    quiet = {piece: ratio.value for piece, ratio in now.items() if ratio.noise <= NOISE}
    if then is None:
        _store_all(path, machine, now, quiet)
        return False
    _show(then, changes)
    if any(change.finding is Finding.NEW for change in changes):
        baseline.save(path, machine, quiet | dict(known))
    worse = [change.piece for change in changes if change.finding is Finding.WORSE]
    if worse:
        click.echo(f"{len(worse)} of {len(now)} pieces got {WORSE:.0%} worse or more; "
                   "--update if that is intended")  # fmt: skip
    else:
        click.echo(f"no piece got {WORSE:.0%} worse")
    return bool(worse)


def compared(then: Mapping[str, float], now: Mapping[str, Ratio]) -> list[Change]:
    """All pieces of both sides, in the order in which they are measured."""
    pieces = [*now, *(piece for piece in then if piece not in now)]
    return [Change(piece, then.get(piece), now.get(piece)) for piece in pieces]


def _measured(measure: Measure, runs: int, known: Mapping[str, float]) -> dict[str, Ratio]:
    """The ratios of `runs` runs, of twice as many for pieces that are noisy or got worse.

    The whole group of such a piece is measured again, including its memcpy().
    """
    taken: list[list[Row]] = []
    for number in range(runs):
        click.echo(f"run {number + 1} of {runs}", err=True)
        taken.append(measure(()))
    uncertain = (Finding.WORSE, Finding.NOISY, Finding.NEW_NOISY)
    repeated = [c for c in compared(known, parts.ratios(taken)) if c.finding in uncertain]
    groups = {change.now.group for change in repeated if change.now is not None}
    nodes = {row.node for row in taken[0] if row.group in groups}
    for number in range(runs if nodes else 0):
        click.echo(f"{len(repeated)} uncertain; again, run {number + 1} of {runs}", err=True)
        taken.append(measure(nodes))
    return parts.ratios(taken)


def _store_all(
    path: Path, machine: Mapping[str, str], now: Mapping[str, Ratio], quiet: Mapping[str, float]
) -> None:
    baseline.save(path, machine, quiet)
    for piece, ratio in now.items():
        if piece not in quiet:
            click.echo(f"{piece}: not stored, its runs are {ratio.noise:.0%} apart")
    click.echo(f"stored {len(quiet)} ratios as this machine's baseline: {path}")


def _show(then: Baseline, changes: list[Change]) -> None:
    rows = tuple(_row(change) for change in changes)
    note = f"Then: {then.stored}, {then.commit or 'a source without git'}."
    print_sheets(Console(), (), [Sheet(TITLE, COLUMNS, rows, (note,))])


def _row(change: Change) -> tuple[str, ...]:
    relative, finding = change.relative, change.finding
    text = str(finding)
    if finding is Finding.NOISY and change.now is not None:
        text += f" (runs {change.now.noise:.0%} apart)"
    return (
        change.piece,
        "" if change.then is None else f"{change.then:.2f}",
        "" if change.now is None else f"{change.now.value:.2f}",
        "" if relative is None else f"{relative:+.0%}",
        text,
    )


if __name__ == "__main__":
    main()
