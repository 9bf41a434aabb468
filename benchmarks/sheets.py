"""Tables of a report: rows of text, printed to a terminal or as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.machine import OTHERS_SHARE, Activity
from benchmarks.noise import Summary

# A run is called disturbed above this share of the machine's CPU time.
STEAL_SHARE = 0.01
# Narrower, the widest table would wrap its figures.
MIN_WIDTH = 116


@dataclass(frozen=True)
class Sheet:
    """A table as text; a cell may have two lines, a figure and its range.

    `words`: the columns after the first are text, not figures.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    words: bool = False


def print_sheets(console: Console, lines: Iterable[str], sheets: Iterable[Sheet]) -> None:
    """Print lines about the machine, then the tables."""
    console.width = max(console.width, MIN_WIDTH)
    for line in lines:
        console.print(line, highlight=False, markup=False)
    for sheet in sheets:
        console.print()
        console.print(sheet.title, style="bold", highlight=False, markup=False)
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(sheet.columns):
            figure = number > 0 and not sheet.words
            table.add_column(column, justify="right" if figure else "left", no_wrap=figure)
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)
        for note in sheet.notes:
            console.print(note, highlight=False, markup=False)


def as_markdown(lines: Iterable[str], sheets: Iterable[Sheet]) -> str:
    """The same as Markdown."""
    text = [f"- {line}" for line in lines]
    for sheet in sheets:
        text += ["", f"### {sheet.title}", "", _markdown_row(sheet.columns)]
        marks = ["---" if n == 0 or sheet.words else "---:" for n in range(len(sheet.columns))]
        text.append(_markdown_row(marks))
        text += [_markdown_row(row) for row in sheet.rows]
        text += ["", *sheet.notes] if sheet.notes else []
    return "\n".join(text)


def machine_lines(about: dict[str, Any], runs: Sequence[Activity]) -> Iterator[str]:
    """Lines that describe the machine, and its activity during each run."""
    kind = "virtual machine" if about["virtual"] else "bare metal"
    memory = f"{about['memory_bytes'] / (1 << 30):.0f} GiB"
    yield f"{about['cpu']}, {about['cpus']} CPUs, {memory}, {kind}"
    yield f"{about['os']}, kernel {about['kernel']}, Python {about['python']}"
    yield ", ".join(f"{name} {text or 'not there'}" for name, text in about["tools"].items())
    yield about["layout"]
    if not runs:
        return
    steal, loads = [run.steal for run in runs], [run.load for run in runs]
    yield (
        f"load {statistics.median(loads):.2f} (to {max(loads):.2f}), "
        f"steal {statistics.median(steal):.1%} (to {max(steal):.1%})"
    )
    disturbed = [run for run in runs if run.steal > STEAL_SHARE or run.others]
    names = sorted({name for run in runs for name, _ in run.others})
    yield (
        f"{len(disturbed)} of {len(runs)} runs with more than {STEAL_SHARE:.0%} steal or "
        f"another process above {OTHERS_SHARE:.0%} of a CPU"
        + (f": {', '.join(names)}" if names else "")
    )


def cell(summary: Summary, form: str) -> str:
    """A figure with its range below; without the range if there is only one value."""
    text = f"{summary.median:{form}}"
    if summary.count == 1:
        return text
    return f"{text}\n{summary.low:{form}}..{summary.high:{form}}"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("\n", "<br>") for text in cells) + " |"
