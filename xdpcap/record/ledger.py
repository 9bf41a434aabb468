"""The ledger: what became of every packet, per queue and in total.

    seen     = redirected + mirrored + ring_lost + filtered + sampled_out + passed + dropped
    redirected + mirrored = received + rx_dropped + rx_ring_full + beyond_limit
    received = written + write_dropped

What is left over is `in_flight` while recording (packets in a ring or in a block)
and `unaccounted` at the end.  `fill_ring_empty` says why packets were dropped and is
never added: docs/ledger.md shows from the kernel's source that each packet it stands
for is in `rx_dropped` already.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

# The names under which a row appears in the report, in this order.
REPORTED = (
    "queue",
    "zero_copy",
    "attach_mode",
    "seen",
    "redirected",
    "mirrored",
    "ring_lost",
    "filtered",
    "sampled_out",
    "passed",
    "dropped",
    "received",
    "written",
    "bytes_written",
    "rx_dropped",
    "rx_ring_full",
    "fill_ring_empty",
    "beyond_limit",
    "write_dropped",
    "unaccounted",
    "device_stamped",
    "files",
)
# What tells one row from another; everything else is added up in a total.
_LABELS = {
    *("interface", "queue", "zero_copy", "mirror", "attach_mode", "current_file", "missed"),
    "clock_ahead_ns",
}


@dataclass
class QueueAccount:
    """One queue's account; counts are packets unless the name says bytes.

    What the program counted has its bytes as well, of packets as they came.  Of those
    received, `device_stamped` have the NIC's time.  The last
    seven are of the moment: the file being written, descriptors waiting in the RX
    ring and its size, what has come in and gone to disk so far, what the interface as
    a whole has missed before any program ran (None when it does not say), and what the
    clock of the files is ahead of UTC.
    """

    interface: str
    queue: int
    zero_copy: bool = False
    mirror: bool = False
    attach_mode: str = ""
    seen: int = 0
    redirected: int = 0
    mirrored: int = 0
    ring_lost: int = 0
    filtered: int = 0
    sampled_out: int = 0
    passed: int = 0
    dropped: int = 0
    redirected_bytes: int = 0
    mirrored_bytes: int = 0
    ring_lost_bytes: int = 0
    filtered_bytes: int = 0
    sampled_out_bytes: int = 0
    passed_bytes: int = 0
    dropped_bytes: int = 0
    received: int = 0
    written: int = 0
    bytes_written: int = 0
    rx_dropped: int = 0
    rx_ring_full: int = 0
    fill_ring_empty: int = 0
    beyond_limit: int = 0
    write_dropped: int = 0
    in_flight: int = 0
    unaccounted: int = 0
    device_stamped: int = 0
    files: int = 0
    current_file: str = ""
    ring_fill: int = 0
    ring_size: int = 0
    bytes_received: int = 0
    bytes_to_disk: int = 0
    missed: int | None = None
    clock_ahead_ns: int = 0

    @property
    def accepted(self) -> int:
        """Packets that the program found worth recording."""
        return self.redirected + self.mirrored + self.ring_lost

    @property
    def lost(self) -> int:
        """Packets that were to be recorded and that no file holds, for want of room or time."""
        return self.rx_dropped + self.rx_ring_full + self.ring_lost + self.write_dropped

    def settle(self, *, final: bool) -> QueueAccount:
        """Work out what the three equations leave over; returns itself."""
        left_alone = self.filtered + self.sampled_out + self.passed + self.dropped
        self.seen = self.accepted + left_alone
        gone = self.written + self.write_dropped + self.beyond_limit
        rest = self.redirected + self.mirrored - gone - self.rx_dropped - self.rx_ring_full
        if final:
            self.in_flight, self.unaccounted = 0, rest
        else:
            self.in_flight, self.unaccounted = max(rest, 0), min(rest, 0)
        return self

    def add(self, other: QueueAccount) -> None:
        """Add another row's counts to this one."""
        for field in fields(self):
            if field.name not in _LABELS:
                value = getattr(self, field.name) + getattr(other, field.name)
                setattr(self, field.name, value)

    def reported(self) -> dict[str, object]:
        """The row as it stands in the JSON report."""
        return {name: getattr(self, name) for name in REPORTED}


def total(accounts: Iterable[QueueAccount]) -> QueueAccount:
    """The sum of all rows; `queue` is -1, the labels are those that all rows share."""
    rows = list(accounts)
    result = QueueAccount("total", -1)
    for row in rows:
        result.add(row)
    result.zero_copy = bool(rows) and all(row.zero_copy for row in rows)
    result.mirror = any(row.mirror for row in rows)
    modes = {row.attach_mode for row in rows}
    result.attach_mode = modes.pop() if len(modes) == 1 else "mixed"
    return result


def merged(earlier: Iterable[QueueAccount], later: Iterable[QueueAccount]) -> list[QueueAccount]:
    """One row a queue: `later` rows, which take up the counts of `earlier` ones of their queue.

    What is of the moment, and the labels, are those of the later row.
    """
    rows = {(row.interface, row.queue): row for row in earlier}
    for row in later:
        before = rows.get((row.interface, row.queue))
        if before is not None:
            row.add(replace(before, ring_fill=0, ring_size=0))
        rows[row.interface, row.queue] = row
    return list(rows.values())


def reported_total(row: QueueAccount) -> dict[str, object]:
    """The total as it stands in the JSON report: the same names, without the queue."""
    return {name: value for name, value in row.reported().items() if name != "queue"}
