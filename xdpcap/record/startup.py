"""What was granted at the start of a recording, as opposed to what was asked for.

The session fills one `StartupReport` an interface from what it read back from the
kernel; the command line prints it before the first packet. Plain data, a leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class QueueMode(NamedTuple):
    """How one receive queue is bound: `XDP_OPTIONS` read back, and the program's variant."""

    queue: int
    zero_copy: bool
    multi_buffer: bool


class Spoiler(NamedTuple):
    """Something that will make the files differ from the wire, and the command that mends it."""

    why: str
    command: str


@dataclass(frozen=True)
class StartupReport:
    """The start-up report of one interface.

    `mtu` in bytes. `queues` are those recorded, `queue_count` is how many
    receive queues the interface has. `clock` names the clock of the timestamps
    and `metadata` tells who takes them: "program" for the XDP program, packet
    by packet, "software" for the worker, "custom" for a user's program where it does, "device"
    for the NIC. `time_stamp_type` is that of pcap-tstamp(7), and `why_host` what keeps the
    NIC's times from being taken, "" where there is nothing to tell.
    `memory` is one line about UMEM and huge pages, or about rings. `mode` tells how packets are
    copied where they are not taken from the host, and `sample` what is left out. `program`
    names a user's program, "" for ours, `counted_by` is "program", or "worker" where the
    program has no counters of ours.
    `filter` is the filter with what becomes of the rest, "" without one.
    `packets` is one line about what packets come with beside their time.
    `rss` tells how flows are spread over queues, where that was asked for.
    """

    interface: str
    driver: str
    attach_mode: str
    queues: Sequence[QueueMode]
    queue_count: int
    mtu: int
    clock: str
    metadata: str
    kernel: str
    memory: str
    time_stamp_type: str = "host"
    why_host: str = ""
    program: str = ""
    counted_by: str = "program"
    packets: str = ""
    spoilers: Sequence[tuple[str, str]] = ()
    mode: str = ""
    sample: str = ""
    filter: str = ""
    rss: str = ""

    @property
    def queues_covered(self) -> int:
        """How many of the `queue_count` queues are recorded."""
        return len(self.queues)
