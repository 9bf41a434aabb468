"""How the final report reads: a table of the ledger, the files, and tcpdump's closing lines.

The report is the dictionary that `--json` prints; `docs/record.md` describes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

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
from xdpcap.cli.record_live import clock_text
from xdpcap.options.units import format_bytes, format_grouped, format_scaled

Account = Mapping[str, Any]

TITLES = {
    "seen": "seen",
    "passed": "passed",
    "filtered": "filtered",
    "sampled_out": "sampled out",
    "mirrored": "mirrored",
    "redirected": "redirected",
    "received": "received",
    "written": "written",
    "lost": "lost",
    "rx_ring_full": "ring full",
    "rx_dropped": "rx drop",
    "ring_lost": "ring lost",
    "write_dropped": "write err",
    "unaccounted": "unaccounted",
    "files": "files",
}
_PLACES = ("rx_ring_full", "rx_dropped", "write_dropped")
# From the richest to the poorest; the first that fits is shown.
LAYOUTS = (
    (
        "queue",
        "seen",
        "passed",
        "redirected",
        "received",
        "written",
        *_PLACES,
        "unaccounted",
        "files",
    ),
    ("queue", "redirected", "received", "written", *_PLACES, "files"),
    ("queue", "redirected", "received", "written", *_PLACES),
    ("queue", "received", "written", *_PLACES),
    ("queue", "redirected", "written", "lost"),
    ("queue", "written", "lost"),
)

# Of a longer list of files the first and the last few are shown.
FILES_SHOWN = 8

# Where a packet can be lost, why, and what helps.
PLACES = {
    "rx_ring_full": "receive ring full; raise --ring-size and --umem-size, or set --cpus",
    "ring_lost": "no room for a copy; raise --mirror-size, or set --cpus",
    "rx_dropped": "no frame free, or packet too long; raise --umem-size, or lower the MTU",
    "dropped": "dropped by the XDP program",
    "write_dropped": "not written; look at the disk's free space and errors",
    "unaccounted": "explained by no counter; please report this",
}


def closing_view(report: Mapping[str, Any], glyphs: Glyphs, width: int) -> list[RenderableType]:
    """The whole summary; `width` is the room for its table in cells."""
    total = report["total"]
    parts: list[RenderableType] = [_headline(report)]
    queues = [(i["name"], queue) for i in report["interfaces"] for queue in i["queues"]]
    if len(queues) > 1:
        parts.append(_ledger(queues, total, glyphs, width))
    if report["files"]:
        parts.append(_files(report["files"], glyphs))
    parts.append(Text("\n".join(closing_lines(total))))
    parts += [Text(line, style="dim") for line in _stamp_lines(report["interfaces"])]
    if total["beyond_limit"]:
        late = f"  {total['beyond_limit']} came after the limit was reached and are in no file"
        parts.append(Text(late, style="dim"))
    losses = loss_lines(total)
    if losses:
        parts.append(Text("\n".join(f"  {line}" for line in losses), style="red"))
    return parts


def closing_lines(total: Account) -> list[str]:
    """What tcpdump ends with, in its words and its plain numbers, for eyes and scripts used to it.

    Captured is what is in the files; received by filter is what the program took for us.
    """
    return [
        _counted(total["written"], "captured"),
        _counted(_sum(total, "redirected", "mirrored", "ring_lost"), "received by filter"),
        _counted(_sum(total, "rx_dropped", "rx_ring_full", "ring_lost"), "dropped by kernel"),
    ]


def loss_lines(total: Account) -> list[str]:
    """One line a place where packets were lost; none without loss."""
    return [
        f"{total[place]} {place}: {why}" for place, why in PLACES.items() if total.get(place, 0)
    ]


def duration_s(report: Mapping[str, Any]) -> float:
    """How long the recording ran, by its own start and end."""
    ended, started = (datetime.fromisoformat(report[key]) for key in ("ended", "started"))
    return max((ended - started).total_seconds(), 0.0)


def _sum(total: Account, *names: str) -> int:
    return sum(total.get(name, 0) for name in names)


def _stamp_lines(interfaces: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of interfaces with the NIC's times: how many packets have them, and how many the host's."""
    for interface in interfaces:
        if interface["time_stamp_type"] == "host":
            continue
        name, queues = interface["name"], interface["queues"]
        stamped = sum(queue["device_stamped"] for queue in queues)
        rest = sum(queue["received"] for queue in queues) - stamped
        yield f"  {name}: {stamped} received packets have the NIC's time, {rest} do not"


def _counted(count: int, what: str) -> str:
    return f"{count} packet{'' if count == 1 else 's'} {what}"


def _headline(report: Mapping[str, Any]) -> Text:
    total, seconds = report["total"], duration_s(report)
    names = ", ".join(interface["name"] for interface in report["interfaces"])
    lasted = f"{seconds:.1f} s" if seconds < 60 else clock_text(seconds)
    files = report["files"]
    if files:
        size = format_bytes(sum(file["bytes"] for file in files))
        text = f": {lasted}, {size} in {len(files)} file{'' if len(files) == 1 else 's'}"
    else:
        # To standard output: no file has a size, so what the packets have.
        text = f": {lasted}, {format_bytes(total['bytes_written'])} of packets"
    if seconds > 0:
        text += f", {format_scaled(total['received'] / seconds, 'pps')} on average"
    return Text.assemble((names, "bold"), text)


def _ledger(
    queues: Sequence[tuple[str, Account]], total: Account, glyphs: Glyphs, width: int
) -> Table:
    titles = {"queue": queue_title(name for name, _ in queues), **TITLES}
    rows = [
        {"queue": queue_label(interface, queue["queue"], titles["queue"]), **_figures(queue)}
        for interface, queue in queues
    ]
    foot = {"queue": Text("total"), **_figures(total)}
    layout, _ = pick_layout(_layouts(total), widths_of(titles, [*rows, foot]), width)
    return ruled_table(titles, layout, rows, foot, glyphs)


def _layouts(total: Account) -> Sequence[Sequence[str]]:
    """Columns for what this recording did: taken or mirrored, filtered or not."""
    mirror = _sum(total, "mirrored", "ring_lost") > 0
    layouts = mirrored_layouts(LAYOUTS) if mirror else [list(layout) for layout in LAYOUTS]
    left_alone = [name for name in ("filtered", "sampled_out") if total.get(name)]
    for layout in layouts:
        if "passed" in layout:
            at = layout.index("passed") + 1
            layout[at:at] = left_alone
    return layouts


def _figures(account: Account) -> dict[str, Text]:
    cells = {}
    for name in TITLES:
        if name == "lost":
            cells[name] = loss_figure(_sum(account, *_PLACES, "ring_lost"))
        elif name in PLACES:
            cells[name] = loss_figure(account.get(name, 0))
        else:
            cells[name] = Text(format_grouped(account.get(name, 0)))
    return cells


def _files(files: Sequence[Account], glyphs: Glyphs) -> RenderableType:
    shown = list(files)
    cut = len(files) > FILES_SHOWN
    if cut:
        shown = [*files[: FILES_SHOWN // 2], *files[-FILES_SHOWN // 2 :]]
    lines = [
        Text.assemble(
            f"{format_grouped(file['packets']):>13} packets {format_bytes(file['bytes']):>10}  ",
            file["path"],
        )
        for file in shown
    ]
    if cut:
        more = f"{'':>13} {glyphs.ellipsis} {len(files) - FILES_SHOWN} more files"
        lines.insert(FILES_SHOWN // 2, Text(more, style="dim"))
    return Group(*lines)
