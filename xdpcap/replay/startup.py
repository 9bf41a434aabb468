"""What was granted at the start of a replay, as opposed to what was asked for.

The session fills one `ReplayStartupReport` an interface; the command line prints it
before the first packet. Plain data, a leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# What a frame takes on the wire beside its bytes: checksum (4), preamble and start of
# frame (8), the least gap to the next one (12); IEEE 802.3, clauses 3 and 4.
WIRE_OVERHEAD_BYTES = 24


@dataclass(frozen=True)
class ReplayStartupReport:
    """How one interface will send.

    `queues` are (queue, whether zero-copy) pairs, read back from the sockets.
    `attach_mode` is the mode of the program that passes everything, or "none".
    `packets` and `bytes` are None where the files are streamed and not known yet;
    `files` is empty where they were told with another interface. `launch_time`
    says what became of --launch-time, "" when it was not asked for. `warnings` are
    pairs of what will go wrong, and the command that mends it or "".
    """

    interface: str
    driver: str
    attach_mode: str
    queues: Sequence[tuple[int, bool]]
    files: Sequence[str]
    packets: int | None
    bytes: int | None
    preload: bool
    pace: str
    launch_time: str
    kernel: str
    warnings: Sequence[tuple[str, str]] = ()


def wire_bits(packets: int, size_bytes: int) -> int:
    """Bits that so many packets of so many bytes together take on the wire.

    Exact for packets of 60 bytes and more; shorter ones count without their padding.
    """
    return 8 * (size_bytes + WIRE_OVERHEAD_BYTES * packets)
