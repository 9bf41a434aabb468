"""Tables that drop columns where the terminal has no room for them, instead of cutting figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from xdpcap.cli.glyphs import Glyphs
from xdpcap.options.units import format_grouped

# One cell of padding before each column, and one of rich's between two columns.
COLUMN_GAP = 2
PADDING = (0, 0, 0, 1)
LEFT_ALIGNED = ("queue", "ring", "file", "name", "driver", "state", "xdp", "alias")

Row = Mapping[str, Text]


def pick_layout(
    layouts: Sequence[Sequence[str]], widths: Mapping[str, int], room: int
) -> tuple[Sequence[str], int]:
    """The first of `layouts` whose columns fit in `room` cells, and the cells it leaves over.

    The last one is taken if none fits; rich then cuts its cells.
    """
    for layout in layouts:
        # Before the first column there is padding only, no gap.
        left = room + 1 - sum(widths[name] + COLUMN_GAP for name in layout)
        if left >= 0:
            return layout, left
    return layouts[-1], 0


# The columns of mirror mode in place of a recording's that takes packets from sockets.
_MIRRORED = {
    "redirected": ("mirrored",),
    "rx_ring_full": ("ring_lost",),
    "rx_dropped": (),
    "fill_ring_empty": (),
}


def mirrored_layouts(layouts: Sequence[Sequence[str]]) -> list[list[str]]:
    """The same layouts for mirror mode, which has rings and no sockets."""
    return [
        [name for column in layout for name in _MIRRORED.get(column, (column,))]
        for layout in layouts
    ]


def widths_of(titles: Mapping[str, str], rows: Iterable[Row]) -> dict[str, int]:
    """The cells that each column needs for its title and all its values."""
    needed = {name: len(title) for name, title in titles.items()}
    for row in rows:
        for name, cell in row.items():
            needed[name] = max(needed[name], cell.cell_len)
    return needed


def ruled_table(
    titles: Mapping[str, str],
    layout: Sequence[str],
    rows: Sequence[Row],
    foot: Row,
    glyphs: Glyphs,
) -> Table:
    """The columns of `layout`, with rules below the head and above `foot` if there is one."""
    table = Table(
        box=glyphs.lines, show_edge=False, show_footer=bool(foot), padding=PADDING, highlight=False
    )
    for name in layout:
        table.add_column(
            Text(titles[name]),
            footer=foot.get(name, ""),
            justify="left" if name in LEFT_ALIGNED else "right",
            no_wrap=True,
            header_style="bold",
        )
    for row in rows:
        table.add_row(*(row.get(name, "") for name in layout))
    return table


def queue_title(interfaces: Iterable[str]) -> str:
    """The title of the queue column: the interface if there is one only."""
    names = set(interfaces)
    return names.pop() if len(names) == 1 else "queue"


def queue_label(interface: str, queue: int, title: str) -> Text:
    """A row's queue; the interface stands before it unless it is the title."""
    prefix = "" if interface == title else f"{interface} "
    return Text.assemble(prefix, (f"q{queue}", "bold"))


def loss_figure(count: int, *, growing: bool = False, harmless: bool = False) -> Text:
    """A count of lost packets: dim at 0, bold while it grows, yellow where it is no loss itself."""
    style = "dim" if not count else "yellow" if harmless else "red"
    return Text(format_grouped(count), style=f"bold {style}" if growing else style)
