"""How results read: tables for a terminal or as Markdown, and the JSON file.

A table is built once as rows of text and drawn twice.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.goals import goals, peer_names
from benchmarks.machine import OTHERS_SHARE
from benchmarks.noise import Finding, Summary
from benchmarks.recorders import DROP_LOOP, OURS
from benchmarks.results import METRICS, Results, Row
from xdpcap.errors import UsageError

COLUMNS = ("recorder", "recorded\nMpps", "of drop\nloop", "sent\nMpps", "lost",
           "recorder CPU\nns/packet", "machine CPU\nns/packet", "file\nMB/s")  # fmt: skip
# A run is called disturbed above this share of the machine's CPU time.
STEAL_SHARE = 0.01
# Narrower, the widest table would fold its figures.
MIN_WIDTH = 116


@dataclass(frozen=True)
class Sheet:
    """A table as text; a cell may have two lines, a figure above and its range below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def sheets(results: Sequence[Results]) -> Iterator[Sheet]:
    """All tables of a report."""
    for result in results:
        yield _figures(result)
        if OURS in result.names and peer_names(result):
            yield _comparison(result)
    rows = tuple((g.scenario, g.asked, g.measured, g.verdict) for g in goals(results))
    if rows:
        yield Sheet("Goals", ("scenario", "asked", "measured", "verdict"), rows)


def print_report(console: Console, about: dict[str, Any], results: Sequence[Results]) -> None:
    """The whole report on a terminal or in a log."""
    console.width = max(console.width, MIN_WIDTH)
    for line in machine_lines(about, results):
        console.print(line, highlight=False, markup=False)
    for sheet in sheets(results):
        console.print()
        console.print(sheet.title, style="bold", highlight=False, markup=False)
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(sheet.columns):
            figure = number > 0 and sheet.columns[0] == "recorder"
            table.add_column(column, justify="right" if figure else "left", no_wrap=figure)
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)
        for note in sheet.notes:
            console.print(note, highlight=False, markup=False)


def markdown(about: dict[str, Any], results: Sequence[Results]) -> str:
    """The same report to paste into a document."""
    lines = [f"- {line}" for line in machine_lines(about, results)]
    for sheet in sheets(results):
        lines += ["", f"### {sheet.title}", "", _markdown_row(sheet.columns)]
        figures = sheet.columns[0] == "recorder"
        marks = ["---" if n == 0 or not figures else "---:" for n in range(len(sheet.columns))]
        lines.append(_markdown_row(marks))
        lines += [_markdown_row(row) for row in sheet.rows]
        lines += ["", *sheet.notes] if sheet.notes else []
    return "\n".join(lines)


def save(path: Path, about: dict[str, Any], results: Sequence[Results]) -> None:
    """Write every raw sample as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {"about": about, "results": [result.as_dict() for result in results]}
    path.write_text(json.dumps(data, indent=1) + "\n")


def load(path: Path) -> tuple[dict[str, Any], list[Results]]:
    """What `save` wrote.  Raises UsageError for another file."""
    try:
        data = json.loads(path.read_text())
        return data["about"], [Results.from_dict(result) for result in data["results"]]
    except (ValueError, KeyError, TypeError) as exc:
        raise UsageError(f"{path}: no report of this benchmark ({exc!r}); measure again") from None


def machine_lines(about: dict[str, Any], results: Sequence[Results]) -> Iterator[str]:
    """What the machine is, and what it was doing."""
    kind = "virtual machine" if about["virtual"] else "bare metal"
    memory = f"{about['memory_bytes'] / (1 << 30):.0f} GiB"
    yield f"{about['cpu']}, {about['cpus']} CPUs, {memory}, {kind}"
    yield f"{about['os']}, kernel {about['kernel']}, Python {about['python']}"
    yield ", ".join(f"{name} {text or 'not there'}" for name, text in about["tools"].items())
    yield about["layout"]
    samples = [sample for result in results for sample in result.samples]
    if not samples:
        return
    steal = [sample.machine.steal for sample in samples]
    loads = [sample.machine.load for sample in samples]
    yield (
        f"load {statistics.median(loads):.2f} (to {max(loads):.2f}), "
        f"steal {statistics.median(steal):.1%} (to {max(steal):.1%})"
    )
    disturbed = [s for s in samples if s.machine.steal > STEAL_SHARE or s.machine.others]
    names = sorted({name for s in samples for name, _ in s.machine.others})
    yield (
        f"{len(disturbed)} of {len(samples)} runs with more than {STEAL_SHARE:.0%} steal or "
        f"another process above {OTHERS_SHARE:.0%} of a CPU"
        + (f": {', '.join(names)}" if names else "")
    )


def _figures(result: Results) -> Sheet:
    scenario = result.scenario
    notes = [f"{name} is missing: {why}" for name, why in result.failures.items()]
    if any(row.noisy for row in result.rows):
        notes.append(f"~ still spreads over more than {result.noise_bound:.0%} after repeating")
    floors = [f"packets/s {result.rate_floor:.1%}"]
    floors += [f"{n} {result.floor(m):.0f} ns" for n, (m, less) in METRICS.items() if less]
    notes.append(f"Noise floor, one drop loop against the next: {', '.join(floors)}.")
    wire = "64" if scenario.size == 60 else str(scenario.size)
    title = (
        f"{scenario.name}: {scenario.count / 1e6:g} million frames of {wire} bytes, "
        f"files {'in memory' if scenario.memory else 'on disk'}"
    )
    rows = tuple(_figure_row(row) for row in result.rows)
    return Sheet(title, COLUMNS, rows, tuple(notes))


def _figure_row(row: Row) -> tuple[str, ...]:
    name = f"{row.name} ~" if row.noisy else row.name
    rate = _text(row.of(lambda s: s.file_rate / 1e6), ".0f")
    if not row.samples[0].sent:
        return (name, "", "", "", "", "", "", rate)
    cpu = row.of(lambda s: s.cpu_ns)
    return (
        name,
        _text(row.of(lambda s: s.pps / 1e6), ".3f"),
        "" if row.name == DROP_LOOP else _text(row.to_reference, ".1%"),
        f"{row.of(lambda s: s.sent / s.send_s / 1e6).median:.3f}",
        _losses(row.of(lambda s: s.lost / s.sent)),
        _text(cpu, ".1f" if cpu.median < 100 else ".0f"),
        _text(row.of(lambda s: s.machine_ns), ".0f"),
        rate if row.samples[0].file_bytes else "",
    )


def _losses(lost: Summary) -> str:
    """Shares of packets; one packet in a million must not read as none."""
    if lost.high == 0:
        return "none"
    figures = [
        "0" if share == 0 else "<0.1%" if share < 0.001 else f"{share:.1%}"
        for share in (lost.median, lost.low, lost.high)
    ]
    return f"{figures[0]}\n{figures[1]}..{figures[2]}" if lost.count > 1 else figures[0]


def _comparison(result: Results) -> Sheet:
    """The recorder against each peer: how much better, in the same rounds."""
    rows = []
    for peer in peer_names(result):
        cells = [peer]
        for metric in METRICS:
            ratios, found = result.finding(OURS, peer, metric)
            cells.append(_verdict(ratios, found))
        rows.append(tuple(cells))
    note = (
        "Medians over rounds; fewer times the CPU is better. Ahead or behind only if every round "
        "says so and the median is beyond the noise floor."
    )
    title = f"{result.scenario.name}: {OURS} relative to its peers"
    return Sheet(title, ("recorder", *METRICS), tuple(rows), (note,))


def _verdict(ratios: Sequence[float], found: Finding) -> str:
    if not ratios:
        return ""
    word = {Finding.MORE: "ahead", Finding.LESS: "behind", Finding.NOISE: str(Finding.NOISE)}
    return f"{statistics.median(ratios):.2f} times, {word[found]}"


def _text(summary: Summary, form: str) -> str:
    text = f"{summary.median:{form}}"
    if summary.count == 1:
        return text
    return f"{text}\n{summary.low:{form}}..{summary.high:{form}}"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("\n", "<br>") for cell in cells) + " |"
