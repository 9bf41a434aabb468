"""Packet filters in tcpdump's language (pcap-filter(7)): compiled once, matched anywhere.

`compile_expression` has libpcap make classic BPF of an expression. What that says of a
packet is asked here in the process (`Compiled.matches`, libpcap's own interpreter), or in the
XDP program (`PacketFilter`: translated to eBPF, and put into the program's object before it
is loaded).
Nothing here holds a descriptor or changes.
"""

from __future__ import annotations

from xdpcap.packets.filter.compiled import (
    ETHERNET,
    SNAPLEN,
    Compiled,
    Instruction,
    compile_expression,
)
from xdpcap.packets.filter.packet_filter import OLDEST_KERNEL, PacketFilter, for_build

__all__ = [
    "ETHERNET",
    "OLDEST_KERNEL",
    "SNAPLEN",
    "Compiled",
    "Instruction",
    "PacketFilter",
    "compile_expression",
    "for_build",
]
