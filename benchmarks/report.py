"""The report of the recorder's results: tables, and the JSON file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.goals import goals, peer_names
from benchmarks.machine import Activity
from benchmarks.noise import Finding, Summary
from benchmarks.recorders import DROP_LOOP, OURS
from benchmarks.results import METRICS, Results, Row
from benchmarks.sheets import Sheet, as_markdown, cell, machine_lines, print_sheets
from xdpcap.errors import UsageError

COLUMNS = ("recorder", "recorded\nMpps", "of drop\nloop", "sent\nMpps", "lost",
           "recorder CPU\nns/packet", "machine CPU\nns/packet", "file\nMB/s")  # fmt: skip


def sheets(results: Sequence[Results]) -> Iterator[Sheet]:
    """All tables of a report."""
    for result in results:
        yield _figures(result)
        if OURS in result.names and peer_names(result):
            yield _comparison(result)
    rows = tuple((g.scenario, g.asked, g.measured, g.outcome) for g in goals(results))
    if rows:
        yield Sheet("Goals", ("scenario", "asked", "measured", "outcome"), rows, words=True)


def print_report(console: Console, about: dict[str, Any], results: Sequence[Results]) -> None:
    """Print the report to a terminal or a log."""
    print_sheets(console, machine_lines(about, _activities(results)), sheets(results))


def markdown(about: dict[str, Any], results: Sequence[Results]) -> str:
    """The report as Markdown."""
    return as_markdown(machine_lines(about, _activities(results)), sheets(results))


def _activities(results: Sequence[Results]) -> list[Activity]:
    return [sample.machine for result in results for sample in result.samples]


def save(path: Path, about: dict[str, Any], results: Sequence[Results]) -> None:
    """Write every raw sample as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {"about": about, "results": [result.as_dict() for result in results]}
    path.write_text(json.dumps(data, indent=1) + "\n")


def load(path: Path) -> tuple[dict[str, Any], list[Results]]:
    """Load a file of `save`.  Raises UsageError for any other file."""
    try:
        data = json.loads(path.read_text())
        return data["about"], [Results.from_dict(result) for result in data["results"]]
    except (ValueError, KeyError, TypeError) as exc:
        raise UsageError(f"{path}: no report of this benchmark ({exc!r}); measure again") from None


def _figures(result: Results) -> Sheet:
    scenario = result.scenario
    notes = [f"{name} is missing: {why}" for name, why in result.failures.items()]
    if any(row.noisy for row in result.rows):
        notes.append(f"~ still spreads over more than {result.noise_bound:.0%} after repeating")
    floors = [f"packets/s {result.rate_floor:.1%}"]
    floors += [f"{n} {result.floor(m):.0f} ns" for n, (m, less) in METRICS.items() if less]
    notes.append(f"Noise floor, one drop loop compared with the next: {', '.join(floors)}.")
    wire = "64" if scenario.size == 60 else str(scenario.size)
    title = (
        f"{scenario.name}: {scenario.count / 1e6:g} million frames of {wire} bytes, "
        f"files {'in memory' if scenario.memory else 'on disk'}"
    )
    rows = tuple(_figure_row(row) for row in result.rows)
    return Sheet(title, COLUMNS, rows, tuple(notes))


def _figure_row(row: Row) -> tuple[str, ...]:
    name = f"{row.name} ~" if row.noisy else row.name
    rate = cell(row.of(lambda s: s.file_rate / 1e6), ".0f")
    if not row.samples[0].sent:
        return (name, "", "", "", "", "", "", rate)
    cpu = row.of(lambda s: s.cpu_ns)
    return (
        name,
        cell(row.of(lambda s: s.pps / 1e6), ".3f"),
        "" if row.name == DROP_LOOP else cell(row.to_reference, ".1%"),
        f"{row.of(lambda s: s.sent / s.send_s / 1e6).median:.3f}",
        _losses(row.of(lambda s: s.lost / s.sent)),
        cell(cpu, ".1f" if cpu.median < 100 else ".0f"),
        cell(row.of(lambda s: s.machine_ns), ".0f"),
        rate if row.samples[0].file_bytes else "",
    )


def _losses(lost: Summary) -> str:
    """Shares of packets, which show even one packet in a million."""
    if lost.high == 0:
        return "none"
    figures = [
        "0" if share == 0 else "<0.1%" if share < 0.001 else f"{share:.1%}"
        for share in (lost.median, lost.low, lost.high)
    ]
    return f"{figures[0]}\n{figures[1]}..{figures[2]}" if lost.count > 1 else figures[0]


def _comparison(result: Results) -> Sheet:
    """The recorder's advantage over each peer, in the same rounds."""
    rows = []
    for peer in peer_names(result):
        cells = [peer]
        for metric in METRICS:
            ratios, found = result.finding(OURS, peer, metric)
            cells.append(_finding_text(ratios, found))
        rows.append(tuple(cells))
    note = (
        "Medians over rounds; fewer times the CPU is better. Ahead or behind only if every round "
        "says so and the median is beyond the noise floor."
    )
    title = f"{result.scenario.name}: {OURS} relative to its peers"
    return Sheet(title, ("recorder", *METRICS), tuple(rows), (note,))


def _finding_text(ratios: Sequence[float], found: Finding) -> str:
    if not ratios:
        return ""
    word = {Finding.MORE: "ahead", Finding.LESS: "behind", Finding.NOISE: str(Finding.NOISE)}
    return f"{statistics.median(ratios):.2f} times, {word[found]}"
