"""Packet filters in tcpdump's language (pcap-filter(7)): compiled once, matched anywhere.

`compile_expression` has libpcap make classic BPF of an expression. What that says of a
packet is asked here in the process (`Compiled.matches`, libpcap's own interpreter).
Nothing here holds a descriptor or changes.
"""

from __future__ import annotations

from xdpcap.filter.compiled import ETHERNET, SNAPLEN, Compiled, Instruction, compile_expression

__all__ = ["ETHERNET", "SNAPLEN", "Compiled", "Instruction", "compile_expression"]
