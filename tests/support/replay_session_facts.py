"""What a replay tells its terminal side, made up, and a terminal in memory to tell it to."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from terminals import session_screen

from xdpcap.cli.replay_ui import ReplayUi
from xdpcap.options.replay import ReplayOptions
from xdpcap.replay.report import Progress
from xdpcap.replay.startup import ReplayStartupReport

OPTIONS = ReplayOptions(files=("web.pcap",), interface="eth1")
LAUNCH = (
    "not handed to the NIC: the driver veth does not offer it; the sender waits for each "
    "packet's time"
)


def startup(**changes: Any) -> ReplayStartupReport:
    granted = ReplayStartupReport(
        interface="eth1",
        driver="igc",
        attach_mode="native",
        queues=[(0, True), (1, True)],
        files=("web.pcap",),
        packets=1500,
        bytes=1_000_000,
        preload=True,
        pace="the recorded times",
        launch_time="",
        kernel="6.18.4",
    )
    return replace(granted, **changes)


def queue(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "interface": "eth1",
        "queue": number,
        "sent": 1000,
        "bytes": 1_000_000,
        "zero_copy": True,
        "late": 0,
        "kicks": 5,
        "loops": 1,
        **changes,
    }


TIMING = {
    "min_ns": 120,
    "p50_ns": 850,
    "p99_ns": 3100,
    "p99_9_ns": 81_000,
    "max_ns": 1_200_000,
    "late": 1,
}
VERIFIED = {"sent": 1000, "arrived": 1000, "missing": 0, "extra": 0, "changed": 0, "reordered": 0}


def report(**changes: Any) -> dict[str, Any]:
    return {
        "sent": 1000,
        "bytes": 1_000_000,
        "pps": 100.0,
        "mbps": 0.8192,
        "seconds": 10.0,
        "skipped": {"too_long": 0, "too_short": 0},
        "skipped_numbers": {"too_long": [], "too_short": []},
        "truncated": 0,
        "tx_errors": {"tx_invalid_descs": 0, "tx_ring_empty": 7, "tx_dropped": 0},
        "zero_copy": True,
        "queues": [queue(0)],
        "timing": TIMING,
        "files": ["web.pcap"],
        "loops": 1,
        "interfaces": ["eth1"],
        "verify": None,
        "damage": [],
        **changes,
    }


screen = partial(session_screen, ReplayUi, OPTIONS)


def progress(seconds: float, packets_per_s: int = 1000, late: int = 0) -> Progress:
    sent = int(seconds * packets_per_s)
    return Progress(sent=sent, bytes=sent * 101, elapsed_s=seconds, late=late, queues=1)
