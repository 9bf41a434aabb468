"""TCP, UDP, ICMP and SCTP.

Source relied on: RFC 9293, 768, 792, 4443, 4861 and 9260.
"""

from __future__ import annotations

import struct

from xdpcap.packets.dissect.layers import Chunk, Icmp, Invalid, Sctp, Tcp, Udp
from xdpcap.packets.dissect.network import VXLAN
from xdpcap.packets.dissect.walk import IP_PROTOCOL, Dissector, Next, Walk

# IANA's, and the one that Linux took before there was one (drivers/net/vxlan).
VXLAN_PORTS = (4789, 8472)
# SCTP chunks that a line names.
MOST_CHUNKS = 8

_TCP = struct.Struct("!HHIIHH").unpack_from
_UDP = struct.Struct("!HHH").unpack_from
_ICMP = struct.Struct("!BBHI").unpack_from
_SCTP = struct.Struct("!HHI").unpack_from
_CHUNK = struct.Struct("!BBH").unpack_from
_WORD = struct.Struct("!I").unpack_from

# Neighbour solicitation, advertisement and redirect begin with the address they are about.
_ABOUT_ADDRESS = (135, 136, 137)
# Chunks whose first word counts or identifies: DATA, INIT, INIT ACK, SACK, SHUTDOWN, I-DATA,
# FORWARD TSN.
_NUMBERED_CHUNKS = {0, 1, 2, 3, 7, 64, 192}


def tcp(walk: Walk, at: int) -> Next:
    """A TCP header with its options."""
    if at + 20 > walk.end:
        walk.cut("tcp")
        return None
    source, target, seq, ack, control, window = _TCP(walk.data, at)
    header = (control >> 12) * 4
    if header < 20:
        walk.layers.append(Invalid("TCP", f"header length {header}"))
        return None
    options = walk.data[at + 20 : min(at + header, walk.end)] if header > 20 else b""
    length = max(walk.wire_end - at - header, 0)
    walk.layers.append(Tcp(source, target, seq, ack, control & 0x1FF, window, options, length))
    if at + header > walk.end:
        walk.cut("tcp")
    return None


def udp(walk: Walk, at: int) -> Next:
    """A UDP header, and VXLAN by its port."""
    if at + 8 > walk.end:
        walk.cut("udp")
        return None
    source, target, length = _UDP(walk.data, at)
    if length == 0:
        # A jumbogram (RFC 2675), or an offload's packet.
        length = walk.wire_end - at
    elif length < 8:
        walk.layers.append(Invalid("UDP", f"length {length}"))
        return None
    walk.layers.append(Udp(source, target, length - 8))
    if target in VXLAN_PORTS:
        walk.limit(min(walk.wire_end, at + length))
        return VXLAN, at + 8
    return None


def icmp(walk: Walk, at: int) -> Next:
    """ICMP for IPv4."""
    if at + 8 > walk.end:
        walk.cut("icmp")
        return None
    kind, code, _, rest = _ICMP(walk.data, at)
    walk.layers.append(Icmp(4, kind, code, rest, b"", walk.wire_end - at))
    return None


def icmpv6(walk: Walk, at: int) -> Next:
    """ICMP for IPv6, neighbour discovery with the address that it is about."""
    if at + 8 > walk.end:
        walk.cut("icmp6")
        return None
    kind, code, _, rest = _ICMP(walk.data, at)
    target = walk.data[at + 8 : at + 24] if kind in _ABOUT_ADDRESS else b""
    whole = at + 24 <= walk.end or not target
    walk.layers.append(Icmp(6, kind, code, rest, target if whole else b"", walk.wire_end - at))
    if not whole:
        walk.cut("icmp6")
    return None


def sctp(walk: Walk, at: int) -> Next:
    """SCTP's common header and its first chunks."""
    if at + 12 > walk.end:
        walk.cut("sctp")
        return None
    source, target, tag = _SCTP(walk.data, at)
    chunks, whole = _chunks(walk, at + 12)
    walk.layers.append(Sctp(source, target, tag, tuple(chunks), walk.wire_end - at - 12))
    if not whole:
        walk.cut("sctp")
    return None


def _chunks(walk: Walk, at: int) -> tuple[list[Chunk], bool]:
    """The first chunks from `at` on, and whether each header that begins is there."""
    chunks: list[Chunk] = []
    while at < walk.wire_end and len(chunks) < MOST_CHUNKS:
        if at + 4 > walk.end:
            return chunks, False
        kind, _, length = _CHUNK(walk.data, at)
        counts = kind in _NUMBERED_CHUNKS and at + 8 <= walk.end
        chunks.append(Chunk(kind, _WORD(walk.data, at + 4)[0] if counts else None))
        if length < 4:
            return chunks, False
        at += (length + 3) & ~3
    return chunks, True


TABLE: dict[int, Dissector] = {
    IP_PROTOCOL + 1: icmp,
    IP_PROTOCOL + 6: tcp,
    IP_PROTOCOL + 17: udp,
    IP_PROTOCOL + 58: icmpv6,
    IP_PROTOCOL + 132: sctp,
}
