"""Which transmit queues keep launch times: those with an ETF queueing discipline, offloaded.

A driver ignores the launch time of a packet unless `tc qdisc ... etf offload` has turned the
feature on for its queue (Documentation/networking/xsk-tx-metadata.rst). Packets of AF_XDP sockets
do not pass the discipline; it is only the switch. Asks rtnetlink in the calling thread's network
namespace; changes nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from pyroute2 import IPRoute

# include/uapi/linux/pkt_sched.h
TC_H_ROOT = 0xFFFFFFFF
TCA_ETF_PARMS = 1
TC_ETF_OFFLOAD_ON = 1 << 1


def timed_queues(index: int) -> set[int]:
    """The interface's transmit queues on which ETF is offloaded to the device."""
    with IPRoute() as ipr:
        messages = list(ipr.get_qdiscs(index=index))
    return {queue for message in messages if (queue := timed_queue(message)) is not None}


def timed_queue(message: Any) -> int | None:
    """The queue of one RTM_NEWQDISC, if it is an offloaded ETF discipline; None otherwise.

    Under mqprio and taprio the queue is the number of the parent's class less one; at the root it
    is the first (net/sched/sch_etf.c, etf_init()).
    """
    if message.get_attr("TCA_KIND") != "etf":
        return None
    # pyroute2 does not know this discipline and gives its options as "10:00:01:...".
    options = bytes.fromhex((message.get_attr("TCA_OPTIONS") or "").replace(":", ""))
    for kind, data in _attributes(options):
        # struct tc_etf_qopt: delta, clockid, flags
        if kind == TCA_ETF_PARMS and struct.unpack_from("=iiI", data)[2] & TC_ETF_OFFLOAD_ON:
            parent = int(message["parent"])
            return 0 if parent == TC_H_ROOT else (parent & 0xFFFF) - 1
    return None


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each netlink attribute."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
