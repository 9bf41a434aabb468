"""One packet as read from a capture file of either format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Packet:
    """`data` is what was captured (`caplen` bytes) of `origlen` bytes on the wire.

    `ts_ns` is since 1970 UTC, None for a Simple Packet Block, which has no
    time. `interface_id` counts within the file's section (0 in pcap).
    `options` has pcapng's names: `epb_flags`, `epb_queue`, `epb_packetid`,
    `epb_dropcount` as int, `opt_comment` as a list of str, others as bytes.
    """

    ts_ns: int | None
    caplen: int
    origlen: int
    data: bytes
    interface_id: int
    linktype: int
    options: dict[str, Any]
