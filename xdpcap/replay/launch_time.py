"""--launch-time: what it takes to leave a packet's time to the NIC.

A NIC that can is handed each packet LEAD_NS before it is due, with the due time in its own
clock, and sends it then.  Where anything lacks the replay goes on as without the option and
says what: a driver that ignores the time would send LEAD_NS too early.

Source relied on: Documentation/networking/xsk-tx-metadata.rst; igc_xsk_wakeup() and
stmmac_xsk_wakeup(), which refuse to send without a native program.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from xdpcap import net
from xdpcap.host import kernel
from xdpcap.net import Link
from xdpcap.net.nic_clock import HardwareClock
from xdpcap.options.replay import ReplayOptions

# A thread that sleeps wakes some tens of microseconds late, a virtual one now and then more
# than a millisecond.  A million packets a second of so much time just fit the default ring,
# and it is far below what a NIC looks ahead: igc 1 s, stmmac 128 s.
LEAD_NS = 2_000_000


def lacking(options: ReplayOptions, link: Link, queues: tuple[int, ...]) -> str | None:
    """What keeps the NIC from being left the packets' times; None when nothing is known to."""
    return next(_lacks(options, link, queues), None)


def _lacks(options: ReplayOptions, link: Link, queues: tuple[int, ...]) -> Iterator[str]:
    if not kernel.has_launch_time():
        yield f"it needs Linux 6.15 and this is {os.uname().release}"
    if options.zero_copy == "off":
        yield "it needs zero-copy and --zero-copy is off"
    if options.attach in ("generic", "none"):
        yield f"it needs a native program and --attach is {options.attach}"
    if not net.offers_launch_time(link.index):
        yield f"the driver {link.driver or 'of ' + link.name} does not offer it"
    unprepared = sorted(set(queues) - net.timed_queues(link.index))
    if unprepared:
        yield f"queue {unprepared[0]} has no ETF queueing discipline with offload"


def granted_text(clock: HardwareClock) -> str:
    """For the start-up report: the NIC keeps the times."""
    lead_ms = LEAD_NS / 1e6
    return f"kept by the NIC with its clock {clock.path}; handed over {lead_ms:g} ms ahead"


def withheld_text(reason: str) -> str:
    """For the start-up report: it does not, and why."""
    return f"not handed to the NIC: {reason}; the sender waits for each packet's time"
