"""How a replay reads: the start-up report, the bar while it runs, the summary at its end.

Pure rendering, no terminal is touched here. The report is the dictionary that
`--json` prints; `docs/replay.md` describes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from xdpcap.cli.columns import (
    loss_figure,
    pick_layout,
    queue_label,
    queue_title,
    ruled_table,
    widths_of,
)
from xdpcap.cli.glyphs import Glyphs
from xdpcap.cli.record_live import clock_text, status_line
from xdpcap.cli.record_opening import headline, labelled, warning_lines
from xdpcap.options.units import (
    format_bytes,
    format_grouped,
    format_nanoseconds,
    format_number_list,
    format_scaled,
)
from xdpcap.replay.report import DIFFERENCES, Progress, differs
from xdpcap.replay.startup import ReplayStartupReport, wire_bits

Report = Mapping[str, Any]

MIN_BAR_WIDTH = 10
# Of a longer list of files the first ones are named.
FILES_NAMED = 3

# Why packets are not sent, and what helps.
SKIPPED = {
    "too_long": ("too long for the MTU", "; raise it on both ends"),
    "too_short": ("shorter than an Ethernet header", ""),
}
TITLES = {
    "queue": "queue",
    "sent": "sent",
    "bytes": "bytes",
    "mode": "mode",
    "late": "late",
}
# From the richest to the poorest; the first that fits is shown.
LAYOUTS = (tuple(TITLES), ("queue", "sent", "mode", "late"), ("queue", "sent"))


@dataclass(frozen=True)
class Pace:
    """The rate since the last look: packets a second, and bits on the wire a second."""

    packets_per_s: float = 0.0
    bits_per_s: float = 0.0


@dataclass(frozen=True)
class Goal:
    """What the replay will come to, as far as that is known."""

    packets: int | None = None
    seconds: float | None = None

    def share(self, progress: Progress) -> float | None:
        """How much of it is done, 0 to 1: by the time it takes, else by its packets."""
        if self.seconds and progress.elapsed_s < self.seconds:
            return progress.elapsed_s / self.seconds
        if self.packets:
            return min(progress.sent / self.packets, 1.0)
        return None

    def left_s(self, progress: Progress, pace: Pace) -> float | None:
        """Seconds to go, or None when nobody can tell."""
        if self.seconds and progress.elapsed_s < self.seconds:
            return self.seconds - progress.elapsed_s
        if self.packets and pace.packets_per_s > 0:
            return max(self.packets - progress.sent, 0) / pace.packets_per_s
        return None


def pace_between(before: Progress, now: Progress) -> Pace:
    """The rate over the time between two looks."""
    interval_s = now.elapsed_s - before.elapsed_s
    if interval_s <= 0:
        return Pace()
    packets, size = now.sent - before.sent, now.bytes - before.bytes
    return Pace(packets / interval_s, wire_bits(packets, size) / interval_s)


# -- the start-up report --------------------------------------------------------------------------


def opening_lines(startup: ReplayStartupReport, glyphs: Glyphs) -> list[Text]:
    """What was granted, line by line; no line is wrapped, so that its commands can be copied."""
    about = f"{startup.driver or 'unknown driver'}, Linux {startup.kernel}"
    lines = [
        headline(startup.interface, about),
        labelled("attach", Text(startup.attach_mode)),
        labelled("queues", _bound(startup.queues)),
    ]
    if startup.files:
        lines.append(labelled("files", Text(_source(startup))))
    lines.append(labelled("pace", Text(startup.pace)))
    if startup.launch_time:
        lines.append(labelled("launch", Text(startup.launch_time)))
    return lines + warning_lines(startup.warnings, glyphs)


def _bound(queues: Sequence[tuple[int, bool]]) -> Text:
    parts: list[Any] = []
    for zero_copy in (True, False):
        numbers = [queue for queue, how in queues if bool(how) == zero_copy]
        if numbers:
            kind = ("zero-copy", "green") if zero_copy else ("copy", "yellow")
            parts += [", " if parts else "", f"{format_number_list(numbers)}: ", kind]
    return Text.assemble(*parts)


def _source(startup: ReplayStartupReport) -> str:
    names = ", ".join("standard input" if n == "-" else n for n in startup.files[:FILES_NAMED])
    if len(startup.files) > FILES_NAMED:
        names += f" and {len(startup.files) - FILES_NAMED} more"
    if startup.packets is not None and startup.bytes is not None:
        names += f": {_packets(startup.packets)}, {format_bytes(startup.bytes)}"
    return names + (", read into memory" if startup.preload else ", read while sending")


# -- while it runs ------------------------------------------------------------------------


def progress_view(
    progress: Progress, pace: Pace, goal: Goal, width: int, waiting_s: float
) -> RenderableType:
    """The bar with its status line below, in at most `width` cells.

    `waiting_s` is the time until the first packet is due.
    """
    if waiting_s > 0:
        return status_line([f"{clock_text(waiting_s)} to the first packet", "Ctrl-C stops"], width)
    sent = _packets(progress.sent)
    if goal.packets is not None:
        whole = f"{format_grouped(progress.sent)} of {_packets(goal.packets)}"
        sent = whole if len(whole) < width else sent
    parts = [
        sent,
        format_scaled(pace.packets_per_s, "pps"),
        format_scaled(pace.bits_per_s, "b/s"),
        f"{format_grouped(progress.late)} late",
        clock_text(progress.elapsed_s),
        "Ctrl-C stops",
    ]
    return Group(_bar(progress, pace, goal, width), status_line(parts, width))


def _bar(progress: Progress, pace: Pace, goal: Goal, width: int) -> RenderableType:
    share, left_s = goal.share(progress), goal.left_s(progress, pace)
    parts = [] if share is None else [f"{share:4.0%}"]
    if left_s is not None:
        parts.append(f"{clock_text(left_s)} to go")
    figures = "  ".join(parts)
    room = width - len(figures) - 4
    if room < MIN_BAR_WIDTH:
        return Text(f" {figures.strip()}")
    row = Table.grid(padding=(0, 1))
    bar = ProgressBar(
        total=None if share is None else 1.0,
        completed=share or 0.0,
        width=room,
        complete_style="cyan",
        finished_style="green",
        pulse_style="cyan",
    )
    row.add_row("", bar, figures)
    return row


def progress_line(interfaces: str, progress: Progress, pace: Pace, goal: Goal) -> str:
    """``12.0s eth1: 1 234 567 packets, 123.4 kpps, 812.0 Mb/s, 0 late, 0:00:12 to go``."""
    parts = [
        f"{progress.elapsed_s:.1f}s {interfaces}: {_packets(progress.sent)}",
        format_scaled(pace.packets_per_s, "pps"),
        format_scaled(pace.bits_per_s, "b/s"),
        f"{format_grouped(progress.late)} late",
    ]
    left_s = goal.left_s(progress, pace)
    if left_s is not None:
        parts.append(f"{clock_text(left_s)} to go")
    return ", ".join(parts)


# -- the summary --------------------------------------------------------------------------


def closing_view(report: Report, glyphs: Glyphs, width: int, late: str) -> list[RenderableType]:
    """The whole summary; `width` is the room for its table, `late` what counts as late."""
    parts: list[RenderableType] = [_headline(report)]
    if len(report["queues"]) > 1:
        parts.append(_queue_table(report, glyphs, width))
    for label, texts, style in (
        ("skipped", skipped_lines(report), "yellow"),
        ("cut", _cut_lines(report), "yellow"),
        ("dropped", dropped_lines(report), "red"),
        ("timing", _timing_lines(report, late), ""),
        ("verify", verify_lines(report), "red" if _differs(report) else "green"),
    ):
        for i, text in enumerate(texts):
            parts.append(labelled("" if i else label, Text(text, style=style)))
    return parts


def _headline(report: Report) -> Text:
    seconds = report["seconds"]
    lasted = f"{seconds:.1f} s" if seconds < 60 else clock_text(seconds)
    text = f": {_packets(report['sent'])}, {format_bytes(report['bytes'])} in {lasted}"
    if report["loops"] > 1:
        text += f", {format_grouped(report['loops'])} times over"
    text += f"; {format_scaled(report['pps'], 'pps')}, "
    text += f"{format_scaled(report['mbps'] * 1e6, 'b/s')} on the wire, "
    text += "zero-copy" if report["zero_copy"] else "copy"
    return Text.assemble((", ".join(report["interfaces"]), "bold"), text)


def _queue_table(report: Report, glyphs: Glyphs, width: int) -> Table:
    rows = report["queues"]
    titles = {**TITLES, "queue": queue_title(row["interface"] for row in rows)}
    cells = [
        {
            "queue": queue_label(row["interface"], row["queue"], titles["queue"]),
            **_queue_figures(row),
            "mode": Text("zero-copy" if row["zero_copy"] else "copy"),
        }
        for row in rows
    ]
    names = ("sent", "bytes", "late")
    sums = {name: sum(row.get(name, 0) for row in rows) for name in names}
    foot = {"queue": Text("total"), **_queue_figures(sums)}
    layout, _ = pick_layout(LAYOUTS, widths_of(titles, [*cells, foot]), width)
    return ruled_table(titles, layout, cells, foot, glyphs)


def _queue_figures(row: Report) -> dict[str, Text]:
    return {
        "sent": Text(format_grouped(row["sent"])),
        "bytes": Text(format_bytes(row["bytes"])),
        "late": loss_figure(row.get("late", 0), harmless=True),
    }


def skipped_lines(report: Report) -> list[str]:
    """One line a cause why packets were not sent, with the numbers of the first ones."""
    numbers = report.get("skipped_numbers", {})
    lines = []
    for cause, count in report["skipped"].items():
        why, way_out = SKIPPED.get(cause, (cause.replace("_", " "), ""))
        if count:
            listed = _numbered(numbers.get(cause, ()), count)
            lines.append(f"{_packets(count)} {why}{listed}{way_out}")
    return lines


def _numbered(numbers: Iterable[int], count: int) -> str:
    listed = [str(number) for number in numbers]
    if not listed:
        return ""
    more = ", ..." if len(listed) < count else ""
    return f" (number{'' if count == 1 else 's'} {', '.join(listed)}{more})"


def _cut_lines(report: Report) -> list[str]:
    count = report.get("truncated", 0)
    if not count:
        return []
    return [f"{_packets(count)} not recorded to the end (snap length), sent as far as recorded"]


def dropped_lines(report: Report) -> list[str]:
    """What the interface dropped; that the kernel found the ring empty is no error."""
    dropped = report["tx_errors"].get("tx_dropped", 0)
    if not dropped:
        return []
    return [
        f"{_packets(dropped)} dropped by the interface while it was sending (tx_dropped): "
        "the other end can't follow; send slower"
    ]


def _timing_lines(report: Report, late: str) -> list[str]:
    timing = report["timing"]
    if timing is None or timing.get("min_ns") is None:
        return []
    return [f"{_quantiles(timing)}; {_packets(timing['late'])} later than {late}"]


def _quantiles(figures: Report) -> str:
    names = (("min", "min_ns"), ("p50", "p50_ns"), ("p99", "p99_ns"), ("p99.9", "p99_9_ns"))
    named = [f"{name} {format_nanoseconds(figures[key])}" for name, key in names]
    return ", ".join([*named, f"max {format_nanoseconds(figures['max_ns'])}"])


def _differs(report: Report) -> bool:
    return report["verify"] is not None and differs(report["verify"])


def verify_lines(report: Report) -> list[str]:
    """What arrived at the far end as against what was sent; none without --verify."""
    verify = report["verify"]
    if verify is None:
        return []
    found = [f"{format_grouped(verify[n])} {n}" for n in DIFFERENCES if verify.get(n, 0)]
    arrived = f"{_packets(verify['arrived'])} of {format_grouped(verify['sent'])} arrived"
    lines = [f"{arrived}: {', '.join(found)}" if found else f"{arrived}, each as it was sent"]
    if verify.get("gap_error"):
        lines.append(f"gaps off by {_quantiles(verify['gap_error'])}")
    return lines


def difference_lines(report: Report) -> list[str]:
    """`verify_lines` only if something arrived otherwise than it was sent."""
    return verify_lines(report)[:1] if _differs(report) else []


def _packets(count: int) -> str:
    return f"{format_grouped(count)} packet{'' if count == 1 else 's'}"
