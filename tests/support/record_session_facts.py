"""What a recording's user interface is shown: a start-up report, rows of the ledger, a report.

with screen(terminal=True) as shown:
    tick(shown.ui, 1.0, account(received=5))
assert shown.lines == [...]
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from terminals import session_screen

from xdpcap.cli.record_ui import TerminalUi
from xdpcap.options.record import RecordOptions
from xdpcap.record.ledger import QueueAccount, reported_total, total
from xdpcap.record.startup import QueueMode, StartupReport

OPTIONS = RecordOptions(interfaces=("eth0",), output="captures")


def account(queue: int = 0, interface: str = "eth0", **counts: Any) -> QueueAccount:
    """A row of the ledger; counts are those of a queue that lost nothing, unless given."""
    counts = {"received": 1000, "written": 1000, "redirected": 1000, "seen": 1000, **counts}
    return QueueAccount(
        interface=interface,
        queue=queue,
        zero_copy=True,
        attach_mode="native",
        bytes_received=counts["received"] * 100,
        bytes_written=counts["written"] * 120,
        files=1,
        current_file=f"captures/{interface}-q{queue}.pcapng.part",
        ring_size=1024,
        **counts,
    )


def startup(**changes: Any) -> StartupReport:
    """What an ordinary capture is granted, with changes."""
    queues = [QueueMode(0, True, True), QueueMode(1, True, True)]
    granted = StartupReport(
        interface="eth0",
        driver="mlx5_core",
        attach_mode="native",
        queues=queues,
        queue_count=2,
        mtu=1500,
        clock="CLOCK_TAI",
        metadata="program",
        kernel="6.18.4",
        memory="64 MiB a queue",
    )
    return replace(granted, **changes)


def report(*accounts: QueueAccount, files: int = 1) -> dict[str, Any]:
    """The report of ten seconds with these rows."""
    return {
        "interfaces": [
            {
                "name": "eth0",
                "driver": "mlx5_core",
                "mtu": 1500,
                "queue_count": 2,
                "attach_mode": "native",
                "time_stamp_type": "host",
                "queues": [row.reported() for row in accounts],
            }
        ],
        "total": reported_total(total(accounts)),
        "files": [
            {"path": f"captures/{n}.pcapng", "packets": 500, "bytes": 60000} for n in range(files)
        ],
        "started": "2026-11-21T09:30:00.500000+00:00",
        "ended": "2026-11-21T09:30:10.500000+00:00",
        "clock": "CLOCK_TAI",
    }


screen = partial(session_screen, TerminalUi, OPTIONS)


def tick(ui: TerminalUi, elapsed_s: float, *accounts: QueueAccount) -> None:
    """A tick of the statistics, so long after the start."""
    ui.tick(accounts, total(accounts), elapsed_s, 1e6)
