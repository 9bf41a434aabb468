"""The ledger held against what was sent and against what the files hold, to the packet."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recorder import Result
from timeouts import PATIENCE

from xdpcap.bench.lab import Lab
from xdpcap.bench.lab.traffic import blast, send_frames
from xdpcap.savefile.reader import read_packets

SETTLE_TIMEOUT_S = 10.0

Row = dict[str, Any]


class Wire:
    """What a test sends into a lab, and how much of it reached the receiver's driver.

    A veth loses frames between its two ends when its ring of 256 is full; it counts
    them at the sender, and nobody at the receiver could have seen them.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._before = lab.statistics()
        self.sent = 0

    def blast(self, count: int, size: int = 60, **options: Any) -> None:
        """`traffic.blast`: XDP frames at full rate."""
        self.sent += blast(self._lab, count, size, **options)

    def send(self, frames: Iterable[bytes], queue: int = 0) -> None:
        """`traffic.send_frames`: chosen bytes on a chosen queue."""
        self.sent += send_frames(self._lab, frames, queue)

    def arrived(self) -> int:
        """Packets that the receiver's driver has taken in, once that is all there were."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S * PATIENCE
        while True:
            now = {k: v - self._before[k] for k, v in self._lab.statistics().items()}
            arrived = self.sent - now["tx_dropped"]
            if now["rx_packets"] == arrived:
                return arrived
            assert time.monotonic() < deadline, f"{self.sent} sent, and the pair counts {now}"
            time.sleep(0.01)


def in_file(path: str | Path) -> int:
    """The packets that a strict reader finds in a file."""
    return sum(1 for _ in read_packets(path))


def check_books(result: Result) -> Row:
    """Assert every equation on every row, and that the files hold what is said; the total."""
    report = result.report
    rows = [row for interface in report["interfaces"] for row in interface["queues"]]
    uncovered = sum(interface["uncovered_passed"] for interface in report["interfaces"])
    for row in [*rows, report["total"]]:
        check_row(row)
    for name, value in report["total"].items():
        if name not in ("zero_copy", "attach_mode"):
            extra = uncovered if name in ("seen", "passed") else 0
            assert value == sum(row[name] for row in rows) + extra, name
    check_files(report)
    return report["total"]


def check_row(row: Row) -> None:
    """Assert the three equations; `fill_ring_empty` is in none of them."""
    lost = row["rx_dropped"] + row["rx_ring_full"]
    handed_over = row["redirected"] + row["mirrored"]
    left_alone = row["filtered"] + row["sampled_out"] + row["passed"] + row["dropped"]
    assert row["seen"] == handed_over + row["ring_lost"] + left_alone, row
    assert handed_over == row["received"] + lost + row["beyond_limit"], row
    assert row["received"] == row["written"] + row["write_dropped"], row
    assert row["unaccounted"] == 0, row
    negative = [name for name, value in row.items() if isinstance(value, int) and value < 0]
    assert not negative, row


def check_files(report: dict[str, Any]) -> None:
    """Assert that the files hold the packets that they are said to, and each queue its own."""
    found: dict[tuple[str, int], int] = {}
    for file in report["files"]:
        path = Path(file["path"])
        assert in_file(path) == file["packets"], path
        assert path.stat().st_size == file["bytes"], path
        parts = re.fullmatch(r"(\w+)-q(\d+)-.*", path.name)
        assert parts is not None, path
        source = parts[1], int(parts[2])
        found[source] = found.get(source, 0) + file["packets"]
    for interface in report["interfaces"]:
        for row in interface["queues"]:
            assert found.pop((interface["name"], row["queue"]), 0) == row["written"], row
    assert not found
