"""How a measurement of the rings reads: a line an interval, a table at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from xdpcap.bench.rings_report import DROPS, RingRate
from xdpcap.options.sweep import Dimension
from xdpcap.options.units import format_grouped, format_scaled

# A table that goes into a file is as wide as it needs to be.
FILE_WIDTH = 160


class RingBenchUi:
    """Lines on standard error while it runs; the result is somebody else's."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet

    def begin(self, about: dict[str, Any]) -> None:
        """What was granted."""
        if not self._quiet:
            self._say(opening(about))

    def tick(self, now: RingRate, elapsed_s: float) -> None:
        """One interval."""
        if not self._quiet:
            self._say(f"{elapsed_s:6.1f} s  {rate_line(now)}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def result_console() -> Console:
    """Standard output: results are what this command is for."""
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    return console


def opening(about: Mapping[str, Any]) -> str:
    """What was granted, in one line."""
    how = "zero-copy" if about["zero_copy"] else "copy"
    busy = ", busy polling" if about["busy_poll"] else ""
    return (
        f"{about['mode']} on {about['interface']} ({about['driver'] or 'unknown driver'}, "
        f"Linux {about['kernel']}): {about['attach']}, {how}, frames of {about['frame_size']}, "
        f"rings of {about['ring_size']}, batches of {about['batch']}{busy}"
    )


def rate_line(rate: RingRate) -> str:
    """One moment in one line."""
    parts = [
        f"{format_scaled(rate.pps, 'pps'):>10}",
        f"{format_scaled(rate.wire_bps, 'b/s'):>10}",
        f"CPU {rate.cpu_share:4.0%}",
        f"ring {rate.ring_mean:4.0%} (most {rate.ring_most:.0%})",
    ]
    per_call = rate.descriptors_per_syscall
    if per_call is not None:
        parts.append(f"{per_call:.1f} a system call")
    lost = {name: count for name, count in rate.drops.items() if count}
    parts += [f"{name} {format_grouped(count)}" for name, count in lost.items()]
    return "  ".join(parts)


def result_table(report: Mapping[str, Any]) -> Table:
    """A row a queue, and one for all where there are several."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, justify in (
        ("queue", "left"), ("Mpps", "right"), ("Mb/s", "right"), ("CPU", "right"),
        ("ns/packet", "right"), ("a system call", "right"), ("ring mean", "right"),
        ("ring most", "right"), ("lost", "right"),
    ):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in report["queues"]:
        table.add_row(str(row["queue"]), *_cells(row))
    if len(report["queues"]) > 1:
        table.add_row("all", *_cells(report), style="bold")
    return table


def sweep_table(
    dimensions: Sequence[Dimension], rows: Sequence[tuple[tuple[str, ...], Mapping[str, Any]]]
) -> Table:
    """A row for each combination; the fastest one stands out."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for dimension in dimensions:
        table.add_column(dimension.name, justify="right")
    for name in ("Mpps", "Mb/s", "CPU", "ns/packet", "a system call", "ring mean", "ring most",
                 "lost"):  # fmt: skip
        table.add_column(name, justify="right")
    best = max((report["pps"] for _, report in rows), default=0.0)
    for words, report in rows:
        style = "bold" if best and report["pps"] == best else ""
        table.add_row(*words, *_cells(report), style=style)
    return table


def summary_line(report: Mapping[str, Any]) -> str:
    """What the table has no column for."""
    cpus = os.cpu_count() or 1
    return (
        f"{format_grouped(report['packets'])} packets in {report['seconds']:.2f} s; "
        f"the whole machine used {report['machine_cpu']:.2f} of {cpus} CPUs"
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    per_call, per_packet = row["descriptors_per_syscall"], row["cpu_ns_per_packet"]
    return [
        f"{row['pps'] / 1e6:.3f}",
        f"{row['mbps']:.0f}",
        f"{row['cpu']:.0%}",
        "" if per_packet is None else f"{per_packet:.0f}",
        "" if per_call is None else f"{per_call:.1f}",
        f"{row['ring_mean']:.0%}",
        f"{row['ring_most']:.0%}",
        format_grouped(sum(row[name] for name in DROPS)),
    ]
