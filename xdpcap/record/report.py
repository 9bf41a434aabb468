"""The final report: the object that `--json` prints and the closing summary is made of.

A leaf: put together from the ledger's rows and the startups alone; `docs/record.md`
tells what each name means.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from xdpcap.record.ledger import QueueAccount, reported_total, total
from xdpcap.record.startup import StartupReport


def make_report(
    rows: Sequence[QueueAccount],
    startups: Mapping[str, StartupReport],
    uncovered: Mapping[str, int],
    *,
    files: Sequence[Mapping[str, Any]],
    started_s: float,
) -> dict[str, Any]:
    """The report of a recording that ends now.

    `startups` and `uncovered` (packets of queues without a socket, which went to the
    kernel stack) are by interface; `started_s` counts from 1970.
    """
    summary = total(rows)
    passed_by = sum(uncovered.values())
    summary.passed += passed_by
    summary.seen += passed_by
    return {
        "interfaces": list(_interfaces(rows, startups, uncovered)),
        "total": reported_total(summary),
        "files": list(files),
        "started": _iso(started_s),
        "ended": _iso(time.time()),
        "clock": next(iter(startups.values())).clock,
    }


def _interfaces(
    rows: Sequence[QueueAccount],
    startups: Mapping[str, StartupReport],
    uncovered: Mapping[str, int],
) -> Iterator[dict[str, Any]]:
    for name, startup in startups.items():
        yield {
            "name": name,
            "driver": startup.driver,
            "mtu": startup.mtu,
            "queue_count": startup.queue_count,
            "attach_mode": startup.attach_mode,
            "program": startup.program or None,
            "counted_by": startup.counted_by,
            "time_stamp_type": startup.time_stamp_type,
            "uncovered_passed": uncovered.get(name, 0),
            "queues": [row.reported() for row in rows if row.interface == name],
        }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
