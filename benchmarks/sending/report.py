"""The report of the senders' results: tables, goals, and the JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.goals import Goal, bounded
from benchmarks.machine import Activity
from benchmarks.sending.gaps import CLOCK
from benchmarks.sending.programs import BARE, OURS
from benchmarks.sending.results import GapSample, RateSample, Samples
from benchmarks.sheets import Sheet, as_markdown, cell, machine_lines, print_sheets
from xdpcap.errors import UsageError
from xdpcap.replay.startup import wire_bits

SHARE_OF_BARE = 0.90
TIMES_TCPREPLAY = 1.7
SHARE_OF_GAP_ERROR = 0.1
# Frame sizes without and with FCS; the names of scenarios have the latter.
FCS_BYTES = 4

RATE_COLUMNS = ("sender", "sent\nMpps", "of bare\nloop", "on the wire\nMb/s",
                "machine CPU\nns/packet")  # fmt: skip
GAP_COLUMNS = ("sender", "p50\nus", "p99\nus", "p99.9\nus", "most\nus")
QUANTILES = ("p50_ns", "p99_ns", "p99_9_ns", "most_ns")


@dataclass(frozen=True)
class Report:
    """All measurements, of both kinds."""

    about: dict[str, Any]
    rates: list[Samples[RateSample]]
    gaps: list[Samples[GapSample]]

    @property
    def sheets(self) -> Iterator[Sheet]:
        """All tables."""
        yield from map(_rate_sheet, self.rates)
        yield from map(_gap_sheet, self.gaps)
        rows = tuple((g.scenario, g.asked, g.measured, g.outcome) for g in self.goals)
        if rows:
            columns = ("scenario", "asked", "measured", "outcome")
            yield Sheet("Goals of replay", columns, rows, words=True)

    @property
    def goals(self) -> Iterator[Goal]:
        """Every goal that was measured."""
        for rate in self.rates:
            yield from _rate_goals(rate)
        for gaps in self.gaps:
            yield from _gap_goals(gaps)

    @property
    def _lines(self) -> Iterator[str]:
        runs: list[Activity] = [s.machine for one in self.rates for s in one.samples]
        runs += [s.machine for one in self.gaps for s in one.samples]
        return machine_lines(self.about, runs)

    def show(self, console: Console) -> None:
        """Print to a terminal or a log."""
        print_sheets(console, self._lines, self.sheets)

    @property
    def markdown(self) -> str:
        """The report as Markdown."""
        return as_markdown(self._lines, self.sheets)

    def save(self, path: Path) -> None:
        """Write every raw sample as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {
            "about": self.about,
            "rates": [one.as_dict() for one in self.rates],
            "gaps": [one.as_dict() for one in self.gaps],
        }
        path.write_text(json.dumps(data, indent=1) + "\n")


def load(path: Path) -> Report:
    """Load a file of `save`.  Raises UsageError for any other file."""
    try:
        data = json.loads(path.read_text())
        rates = [Samples.from_dict(one, RateSample) for one in data["rates"]]
        gaps = [Samples.from_dict(one, GapSample) for one in data["gaps"]]
        return Report(data["about"], rates, gaps)
    except (ValueError, KeyError, TypeError) as exc:
        raise UsageError(f"{path}: no report of this benchmark ({exc!r}); measure again") from None


def _missing(failures: dict[str, str]) -> list[str]:
    return [f"{name} is missing: {why}" for name, why in failures.items()]


def _rate_sheet(result: Samples[RateSample]) -> Sheet:
    rows = []
    for name in result.names:
        wire_mbps = wire_bits(1, result.load) / 1e6
        to_bare = result.of(name, lambda s: s.pps / s.reference_pps)
        rows.append(
            (
                name,
                cell(result.of(name, lambda s: s.pps / 1e6), ".3f"),
                "" if name == BARE else cell(to_bare, ".1%"),
                cell(result.of(name, lambda s, mbps=wire_mbps: s.pps * mbps), ".0f"),
                cell(result.of(name, lambda s: s.machine_ns), ".0f"),
            )
        )
    floor = result.floor(BARE, lambda s: s.pps)
    notes = (
        *_missing(result.failures),
        f"Noise floor, one bare loop compared with the next: {floor:.1%}.",
    )
    wire = 64 if result.load == 60 else result.load
    title = f"{result.name}: frames of {wire} bytes at top speed, one queue"
    return Sheet(title, RATE_COLUMNS, tuple(rows), notes)


def _gap_sheet(result: Samples[GapSample]) -> Sheet:
    rows = []
    for name in result.names:
        cells = [
            cell(result.of(name, lambda s, q=quantile: getattr(s, q) / 1e3), ".2f")
            for quantile in QUANTILES
        ]
        rows.append((name, *cells))
    title = f"{result.name}: error of gaps at the receiver, {result.load:,} packets a second"
    return Sheet(title, GAP_COLUMNS, tuple(rows), tuple(_missing(result.failures)))


def _peers(names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in (BARE, OURS, CLOCK)]


def _rate_goals(result: Samples[RateSample]) -> Iterator[Goal]:
    if OURS not in result.names:
        return
    share = result.ratios(OURS, [OURS], lambda s: s.pps / s.reference_pps, best=lambda _: 1.0)
    yield bounded(result.name, f"{SHARE_OF_BARE:.0%} of the bare loop", share, SHARE_OF_BARE)
    times = result.ratios(OURS, _peers(result.names), lambda s: s.pps)
    if times:
        asked = f"{TIMES_TCPREPLAY:g} times tcpreplay's packets/s"
        yield bounded(result.name, asked, times, TIMES_TCPREPLAY, form=".2f")


def _gap_goals(result: Samples[GapSample]) -> Iterator[Goal]:
    """The comparison with the more accurate tcpreplay of each round."""
    peers = _peers(result.names)
    if OURS not in result.names or not peers:
        return
    for label, quantile in (("median", "p50_ns"), ("p99", "p99_ns")):
        ratios = result.ratios(OURS, peers, lambda s, q=quantile: getattr(s, q), best=min)
        asked = f"{label} gap error under a tenth of tcpreplay's"
        yield bounded(result.name, asked, ratios, SHARE_OF_GAP_ERROR, less=True)
