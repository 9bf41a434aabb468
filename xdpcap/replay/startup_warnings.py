"""What will go wrong with a replay and can be known before its first packet.

Pairs of the cause and the command that mends it, or "" where none does, for the start-up report.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from xdpcap.net import Link
from xdpcap.options.replay import ReplayOptions
from xdpcap.replay.batches import BatchSource

Caution = tuple[str, str]


def link_warnings(link: Link) -> Iterator[Caution]:
    """What is wrong with an interface that is up."""
    if not link.carrier:
        yield f"{link.name} has no carrier: the other end is down, and packets are lost", ""


def sending_warnings(
    options: ReplayOptions, source: BatchSource, packets: int, queues: int
) -> Iterator[Caution]:
    """What is wrong with the files and the pace; `packets` of the first batch, on `queues`."""
    if source.preload and packets == 1 and options.loop != 1 and options.recorded_pace:
        yield "one packet has no recorded gap: its loops follow each other at once", "--pps N"
    if source.reading.truncated:
        yield (
            f"{source.reading.truncated:,} packets were not recorded to their end, and are sent as "
            "short as they are in the file",
            "",
        )
    cpus = len(os.sched_getaffinity(0))
    if not options.top_speed and options.timer == "spin" and queues > 1 and queues >= cpus:
        yield (
            f"{queues} queues wait awake on {cpus} CPUs: they keep each other from running",
            "--timer sleep",
        )
