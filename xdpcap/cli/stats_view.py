"""How the counters of running recordings read: a row a queue, columns for what happens there.

Pure rendering: readings go in, a rich renderable comes out.  Verdicts that no packet has had
take no column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from xdpcap.cli.columns import pick_layout, queue_label, queue_title, ruled_table, widths_of
from xdpcap.cli.glyphs import Glyphs
from xdpcap.cli.record_live import clock_text
from xdpcap.options.units import format_grouped

if TYPE_CHECKING:
    from xdpcap.programs.counters import Verdicts
    from xdpcap.programs.pinned_counters import Owner

# As the ledger has them (docs/ledger.md).
VERDICTS = (
    "redirected",
    "mirrored",
    "ring_lost",
    "filtered",
    "sampled_out",
    "passed",
    "dropped",
)
TITLES = {name: name.replace("_", " ") for name in VERDICTS}
# Shown even when it is 0: how a recording takes its packets.
ALWAYS = "redirected"


@dataclass
class Counts:
    """One queue's packets and bytes by verdict; the rates are those since the last reading."""

    queue: int
    packets: dict[str, int]
    size: dict[str, int]
    packets_per_s: float | None = None
    bits_per_s: float | None = None

    @property
    def seen(self) -> int:
        """Packets that the program ran on."""
        return sum(self.packets.values())

    def as_json(self) -> dict[str, Any]:
        """Its counts under the names of the ledger, `queue` left to the caller."""
        row: dict[str, Any] = {"seen": self.seen}
        for name in VERDICTS:
            row[name] = self.packets[name]
            row[f"{name}_bytes"] = self.size[name]
        if self.packets_per_s is not None:
            row |= {"packets_per_s": self.packets_per_s, "bits_per_s": self.bits_per_s}
        return row


@dataclass
class Reading:
    """What one recording had counted at `time_s`."""

    interface: str
    pid: int
    began_s: float
    time_s: float
    queues: list[Counts] = field(default_factory=list)

    @property
    def total(self) -> Counts:
        """All queues together."""
        result = Counts(-1, dict.fromkeys(VERDICTS, 0), dict.fromkeys(VERDICTS, 0))
        for row in self.queues:
            for name in VERDICTS:
                result.packets[name] += row.packets[name]
                result.size[name] += row.size[name]
        rates = [row for row in self.queues if row.packets_per_s is not None]
        if rates:
            result.packets_per_s = sum(row.packets_per_s or 0.0 for row in rates)
            result.bits_per_s = sum(row.bits_per_s or 0.0 for row in rates)
        return result

    def since(self, earlier: Sequence[Reading]) -> None:
        """Work out the rates since the reading of the same recording among `earlier`."""
        for before in earlier:
            if (before.interface, before.pid, before.began_s) != (
                self.interface,
                self.pid,
                self.began_s,
            ):
                continue
            lasted = self.time_s - before.time_s
            rows = {row.queue: row for row in before.queues}
            for row in self.queues:
                old = rows.get(row.queue)
                packets = row.seen - (old.seen if old else 0)
                size = sum(row.size.values()) - (sum(old.size.values()) if old else 0)
                if lasted > 0:
                    row.packets_per_s, row.bits_per_s = packets / lasted, 8 * size / lasted

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints for it."""
        return {
            "interface": self.interface,
            "pid": self.pid,
            "began": self.began_s,
            "time": self.time_s,
            "queues": [{"queue": row.queue, **row.as_json()} for row in self.queues],
            "total": self.total.as_json(),
        }


def reading_of(owner: Owner, verdicts: Sequence[Verdicts], time_s: float) -> Reading:
    """The rows of a recording: its queues, and others that packets have come on."""
    recorded = owner.queue_numbers
    reading = Reading(owner.interface, owner.pid, owner.since, time_s)
    for queue, verdict in enumerate(verdicts):
        packets = {name: getattr(verdict, name) for name in VERDICTS}
        size = {name: getattr(verdict, f"{name}_bytes") for name in VERDICTS}
        if queue in recorded or any(packets.values()):
            reading.queues.append(Counts(queue, packets, size))
    return reading


def stats_view(readings: Sequence[Reading], glyphs: Glyphs, width: int) -> RenderableType:
    """One table with its totals below, and a line for each recording."""
    rows = [(reading.interface, row) for reading in readings for row in reading.queues]
    used = [n for n in VERDICTS if n == ALWAYS or any(row.packets[n] for _, row in rows)]
    titles = {"queue": queue_title(interface for interface, _ in rows), "seen": "seen", **TITLES}
    titles |= {f"{name}_bytes": "bytes" for name in VERDICTS}
    titles |= {"packets_per_s": "packets/s", "bits_per_s": "Mb/s"}
    cells = [
        {"queue": queue_label(interface, row.queue, titles["queue"]), **_cells(row)}
        for interface, row in rows
    ]
    totals = _total(readings)
    foot = {"queue": Text("total"), **_cells(totals)} if len(rows) > 1 else {}
    rates = ("packets_per_s", "bits_per_s") if totals.packets_per_s is not None else ()
    with_bytes = [part for name in used for part in (name, f"{name}_bytes")]
    layouts = (
        ("queue", *rates, "seen", *with_bytes),
        ("queue", *rates, "seen", *used),
        ("queue", *rates, *used),
        ("queue", *rates, "seen"),
    )
    layout, _ = pick_layout(layouts, widths_of(titles, [*cells, foot]), width)
    lines = [
        Text(
            f" {r.interface}: process {r.pid}, records for {clock_text(r.time_s - r.began_s)}",
            style="cyan",
        )
        for r in readings
    ]
    return Group(ruled_table(titles, layout, cells, foot, glyphs), *lines)


def _total(readings: Sequence[Reading]) -> Counts:
    everything = Reading("", 0, 0.0, 0.0, [row for r in readings for row in r.queues])
    return everything.total


def _cells(row: Counts) -> dict[str, Text]:
    cells = {"seen": Text(format_grouped(row.seen))}
    for name in VERDICTS:
        lost = "red" if name == "ring_lost" and row.packets[name] else ""
        cells[name] = Text(format_grouped(row.packets[name]), style=lost)
        cells[f"{name}_bytes"] = Text(format_grouped(row.size[name]), style="dim")
    if row.packets_per_s is not None:
        cells["packets_per_s"] = Text(format_grouped(round(row.packets_per_s)))
        cells["bits_per_s"] = Text(f"{(row.bits_per_s or 0) / 1e6:,.1f}".replace(",", " "))
    return cells
