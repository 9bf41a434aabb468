"""The live table: one row a queue, as many columns as the terminal has room for.

Pure rendering, no terminal is touched here: accounts and rates go in, a rich
renderable comes out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xdpcap.cli.columns import (
    loss_figure,
    mirrored_layouts,
    pick_layout,
    queue_label,
    queue_title,
    ruled_table,
    widths_of,
)
from xdpcap.cli.glyphs import Glyphs
from xdpcap.cli.rates import Key, Rate, key_of
from xdpcap.options.units import format_grouped, format_scaled
from xdpcap.record.ledger import QueueAccount

BAR_WIDTH = 8
MIN_FILE_WIDTH = 20
# Above these, a receive ring is in danger of running full.
RING_HIGH, RING_FULL = 0.5, 0.8

TITLES = {
    "queue": "queue",
    "packets_per_s": "packets/s",
    "bits_per_s": "Mb/s",
    "received": "received",
    "lost": "lost",
    "rx_ring_full": "ring full",
    "rx_dropped": "rx drop",
    "ring_lost": "ring lost",
    "fill_ring_empty": "fill empty",
    "write_dropped": "write err",
    "ring": "ring fill",
    "file": "file",
}
# Kept from the start, so that the columns do not move while the figures grow.
STEADY_WIDTHS = {"packets_per_s": 10, "bits_per_s": 8, "received": 13}
LOSSES = (*("lost", "rx_ring_full", "rx_dropped", "ring_lost", "fill_ring_empty", "write_dropped"),)

_ALL_PLACES = ("rx_ring_full", "rx_dropped", "fill_ring_empty", "write_dropped")
_PLACES = ("rx_ring_full", "rx_dropped", "write_dropped")
_RATES = ("queue", "packets_per_s", "bits_per_s")
# From the richest to the poorest; the first that fits is shown.
LAYOUTS = (
    (*_RATES, "received", *_ALL_PLACES, "ring", "file"),
    (*_RATES, *_PLACES, "ring", "file"),
    (*_RATES, *_PLACES, "ring"),
    ("queue", "packets_per_s", *_PLACES, "ring"),
    (*_RATES, "lost", "ring"),
    (*_RATES, "lost"),
    ("queue", "packets_per_s", "lost"),
)


@dataclass(frozen=True)
class Moment:
    """What the table shows: the ledger and the rates at one time of the recording."""

    accounts: Sequence[QueueAccount]
    totals: QueueAccount
    rates: Mapping[Key, Rate]
    elapsed_s: float
    disk_rate_bytes: float
    growing: frozenset[tuple[Key, str]] = frozenset()

    @property
    def total_rate(self) -> Rate:
        """All queues together."""
        return sum(self.rates.values(), Rate())


def live_view(moment: Moment, glyphs: Glyphs, width: int, height: int) -> RenderableType:
    """The table with its status line, in at most `width` cells and `height` lines."""
    # Head, rule, rule, totals, the line for rows left out, the status line, and one to spare.
    rows = visible_accounts(moment, max(height - 7, 1))
    table = _table(moment, rows, glyphs, width)
    parts: list[RenderableType] = [table]
    hidden = len(moment.accounts) - len(rows)
    if hidden:
        plural = "s" if hidden > 1 else ""
        parts.append(
            Text(f" {glyphs.ellipsis} {hidden} quieter queue{plural} not shown", style="dim")
        )
    parts.append(_status(moment, width))
    return Group(*parts)


def visible_accounts(moment: Moment, limit: int) -> list[QueueAccount]:
    """All queues if `limit` lines hold them, else those that lost most, then the busiest."""
    if len(moment.accounts) <= limit:
        return list(moment.accounts)

    def urgency(account: QueueAccount) -> tuple[int, float]:
        return account.lost, moment.rates[key_of(account)].packets_per_s

    chosen = {key_of(a) for a in sorted(moment.accounts, key=urgency, reverse=True)[:limit]}
    return [account for account in moment.accounts if key_of(account) in chosen]


def _table(moment: Moment, accounts: Sequence[QueueAccount], glyphs: Glyphs, width: int) -> Table:
    titles = {**TITLES, "queue": queue_title(a.interface for a in moment.accounts)}
    rows = [_cells(moment, account, glyphs, titles["queue"]) for account in accounts]
    # With one queue the totals would say everything twice.
    foot = _total_cells(moment) if len(moment.accounts) > 1 else {}
    widths = widths_of(titles, [*rows, foot])
    whole_file = widths["file"]
    widths["file"] = min(MIN_FILE_WIDTH, whole_file)
    for name, least in STEADY_WIDTHS.items():
        widths[name] = max(widths[name], least)
    layouts = mirrored_layouts(LAYOUTS) if moment.totals.mirror else LAYOUTS
    layout, left = pick_layout(layouts, widths, width)
    for row in rows:
        row["file"] = Text(glyphs.cut_left(row["file"].plain, widths["file"] + left), style="dim")
    table = ruled_table(titles, layout, rows, foot, glyphs)
    for column, name in zip(table.columns, layout, strict=True):
        column.min_width = STEADY_WIDTHS.get(name)
    return table


def _cells(moment: Moment, account: QueueAccount, glyphs: Glyphs, title: str) -> dict[str, Text]:
    key = key_of(account)
    return {
        "queue": queue_label(account.interface, account.queue, title),
        **_figures(moment.rates[key], account),
        **{
            place: loss_figure(
                getattr(account, place),
                growing=(key, place) in moment.growing,
                harmless=place == "fill_ring_empty",
            )
            for place in LOSSES
        },
        "ring": _ring(account, glyphs),
        "file": Text(os.path.basename(account.current_file).removesuffix(".part")),
    }


def _total_cells(moment: Moment) -> dict[str, Text]:
    return {
        "queue": Text("total"),
        **_figures(moment.total_rate, moment.totals),
        **{
            place: loss_figure(getattr(moment.totals, place), harmless=place == "fill_ring_empty")
            for place in LOSSES
        },
    }


def _figures(rate: Rate, account: QueueAccount) -> dict[str, Text]:
    return {
        "packets_per_s": Text(format_grouped(round(rate.packets_per_s))),
        "bits_per_s": Text(f"{rate.bits_per_s / 1e6:,.1f}".replace(",", " ")),
        "received": Text(format_grouped(account.received)),
    }


def _ring(account: QueueAccount, glyphs: Glyphs) -> Text:
    fill = account.ring_fill / account.ring_size if account.ring_size else 0.0
    style = "red" if fill >= RING_FULL else "yellow" if fill >= RING_HIGH else "green"
    return Text.assemble(
        (glyphs.bar_of(fill, BAR_WIDTH), f"{style} on grey23"), (f"{fill:4.0%}", style)
    )


def _status(moment: Moment, width: int) -> Text:
    """The line below the table; its parts drop off from the right where there is no room."""
    files = moment.totals.files
    parts = [
        clock_text(moment.elapsed_s),
        f"disk {format_scaled(moment.disk_rate_bytes, 'B/s')}",
        f"{files} file{'' if files == 1 else 's'}",
        f"{format_grouped(moment.totals.received)} packets",
        "Ctrl-C stops",
    ]
    return status_line(parts, width)


def status_line(parts: Sequence[str], width: int) -> Text:
    """As many of `parts`, from the first, as `width` cells hold."""
    shown = list(parts)
    while len(shown) > 1 and sum(len(part) + 3 for part in shown) > width:
        shown.pop()
    return Text(" " + "   ".join(shown), style="cyan")


def clock_text(elapsed_s: float) -> str:
    """Elapsed time as a clock shows it: ``0:00:12``, ``26:03:04``."""
    minutes, seconds = divmod(int(elapsed_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
