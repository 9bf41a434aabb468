"""IP, what stands between it and the transport, and encapsulations.

Source relied on: RFC 791, 8200, 4302 (authentication header), 2784, 2890 and 2637 (GRE),
7348 (VXLAN); 2003, 2473 and 4213 (IP in IP).
"""

from __future__ import annotations

import struct

from xdpcap.packets.dissect.layers import Extension, Gre, Invalid, Ip, Payload, Vxlan
from xdpcap.packets.dissect.link import DLT_EN10MB, DLT_PPP
from xdpcap.packets.dissect.numbers import (
    IPV4,
    IPV6,
    PPP_IN_GRE,
    TEB,
    ip_protocol_name,
)
from xdpcap.packets.dissect.walk import IP_PROTOCOL, LINK, Dissector, Next, Walk

# What UDP hands its payload to, beside the IP protocols.
VXLAN = IP_PROTOCOL + 0x100

_IPV4 = struct.Struct("!BBHHHBBH4s4s").unpack_from
_IPV6 = struct.Struct("!IHBB16s16s").unpack_from
_FRAGMENT = struct.Struct("!BBHI").unpack_from
_GRE = struct.Struct("!HH").unpack_from
_WORD = struct.Struct("!I").unpack_from

_DONT_FRAGMENT, _MORE_FRAGMENTS, _OFFSET = 0x4000, 0x2000, 0x1FFF
_AUTHENTICATION, _FRAGMENT_HEADER = 51, 44
_GRE_CHECKSUM, _GRE_ROUTING, _GRE_KEY, _GRE_SEQ, _GRE_ACK = 0x8000, 0x4000, 0x2000, 0x1000, 0x80
_VXLAN_ID_VALID = 0x08


def ipv4(walk: Walk, at: int) -> Next:
    """An IPv4 header, options skipped; what follows ends where its length says."""
    if at + 20 > walk.end:
        walk.cut("ip")
        return None
    head, tos, total, identification, fragment, ttl, protocol, _, source, target = _IPV4(
        walk.data, at
    )
    header = (head & 0xF) * 4
    if head >> 4 != 4 or header < 20:
        what = f"version {head >> 4}" if head >> 4 != 4 else f"header length {header}"
        walk.layers.append(Invalid("IP", what))
        return None
    if total == 0:
        # Segmentation offload: longer than the field can say, so all that there is.
        total = walk.wire_end - at
    elif total < header:
        walk.layers.append(Invalid("IP", f"length {total}"))
        return None
    offset = (fragment & _OFFSET) * 8
    walk.layers.append(
        Ip(
            4,
            source,
            target,
            protocol,
            ttl,
            tos,
            identification,
            bool(fragment & _DONT_FRAGMENT),
            bool(fragment & _MORE_FRAGMENTS),
            offset,
            None,
            total - header,
        )
    )
    walk.limit(at + total)
    if at + header > walk.end:
        walk.cut("ip")
        return None
    return _payload(walk, protocol, at + header, offset)


def ipv6(walk: Walk, at: int) -> Next:
    """An IPv6 header without its extensions."""
    if at + 40 > walk.end:
        walk.cut("ip6")
        return None
    first, length, protocol, hops, source, target = _IPV6(walk.data, at)
    if first >> 28 != 6:
        walk.layers.append(Invalid("IP6", f"version {first >> 28}"))
        return None
    if length == 0 and protocol != 59:
        # A jumbogram (RFC 2675), or an offload's packet: all that there is.
        length = max(walk.wire_end - at - 40, 0)
    walk.layers.append(
        Ip(
            6,
            source,
            target,
            protocol,
            hops,
            first >> 20 & 0xFF,
            None,
            False,
            False,
            0,
            first & 0xFFFFF,
            length,
        )
    )
    walk.limit(at + 40 + length)
    return _payload(walk, protocol, at + 40, 0)


def extension(walk: Walk, at: int) -> Next:
    """An options, routing or authentication header: the next header, and its own length."""
    ip = _last_ip(walk)
    if ip is None or at + 2 > walk.end:
        walk.cut("ip6ext" if ip is None or ip.version == 6 else "ah")
        return None
    number = ip.next
    following, units = walk.data[at], walk.data[at + 1]
    length = (units + 2) * 4 if number == _AUTHENTICATION else (units + 1) * 8
    walk.layers.append(Extension(number))
    ip.next = following
    if at + length > walk.end:
        walk.cut("ip6ext" if ip.version == 6 else "ah")
        return None
    return _payload(walk, following, at + length, 0)


def fragment(walk: Walk, at: int) -> Next:
    """IPv6's fragment header; what it tells goes to the header before it."""
    ip = _last_ip(walk)
    if ip is None or at + 8 > walk.end:
        walk.cut("frag")
        return None
    following, _, control, identification = _FRAGMENT(walk.data, at)
    walk.layers.append(Extension(_FRAGMENT_HEADER))
    ip.next, ip.id = following, identification
    ip.fragment_offset, ip.more_fragments = control & 0xFFF8, bool(control & 1)
    return _payload(walk, following, at + 8, ip.fragment_offset)


def _last_ip(walk: Walk) -> Ip | None:
    return next((layer for layer in reversed(walk.layers) if isinstance(layer, Ip)), None)


def _payload(walk: Walk, protocol: int, at: int, fragment_offset: int) -> Next:
    """The next header; a later fragment has none, it begins somewhere in the payload."""
    if fragment_offset:
        walk.layers.append(Payload(ip_protocol_name(protocol), walk.wire_end - at))
        return None
    return IP_PROTOCOL + protocol, at


def _in_ip(kind: int) -> Dissector:
    """IP in IP: the inner header, if it is the first encapsulation."""

    def inner(walk: Walk, at: int) -> Next:
        if walk.enter():
            return kind, at
        walk.layers.append(Payload("IPIP", walk.wire_end - at))
        return None

    return inner


def gre(walk: Walk, at: int) -> Next:
    """GRE of versions 0 and 1; a source route (RFC 1701) is not followed."""
    if at + 4 > walk.end:
        walk.cut("gre")
        return None
    flags, kind = _GRE(walk.data, at)
    version, start = flags & 7, at
    at += 4 + (4 if flags & (_GRE_CHECKSUM | _GRE_ROUTING) else 0)
    words: list[int | None] = []
    for bit in (_GRE_KEY, _GRE_SEQ):
        if flags & bit and at + 4 > walk.end:
            walk.cut("gre")
            return None
        words.append(_WORD(walk.data, at)[0] if flags & bit else None)
        at += 4 if flags & bit else 0
    if version == 1 and flags & _GRE_ACK:
        at += 4
    if at > walk.end:
        walk.cut("gre")
        return None
    key, seq = words
    walk.layers.append(Gre(version, kind, key, seq, walk.wire_end - at))
    if version > 1 or flags & _GRE_ROUTING:
        what = f"version {version}" if version > 1 else "source route"
        walk.layers.append(Payload(what, walk.wire_end - start))
        return None
    return _below_gre(walk, kind, at)


def _below_gre(walk: Walk, kind: int, at: int) -> Next:
    if not walk.enter():
        walk.layers.append(Payload("GRE", walk.wire_end - at))
        return None
    if kind == TEB:
        return LINK + DLT_EN10MB, at
    return (LINK + DLT_PPP if kind == PPP_IN_GRE else kind), at


def vxlan(walk: Walk, at: int) -> Next:
    """VXLAN: an Ethernet frame, where the network's number is marked as valid."""
    if at + 8 > walk.end:
        walk.cut("vxlan")
        return None
    if not walk.data[at] & _VXLAN_ID_VALID:
        walk.layers.append(Invalid("VXLAN", f"flags 0x{walk.data[at]:02x}"))
        return None
    network = _WORD(walk.data, at + 4)[0] >> 8
    walk.layers.append(Vxlan(network, walk.wire_end - at - 8))
    if not walk.enter():
        return None
    return LINK + DLT_EN10MB, at + 8


TABLE: dict[int, Dissector] = {
    IPV4: ipv4,
    IPV6: ipv6,
    **dict.fromkeys((IP_PROTOCOL + number for number in (0, 43, 51, 60)), extension),
    IP_PROTOCOL + _FRAGMENT_HEADER: fragment,
    **{IP_PROTOCOL + 4: _in_ip(IPV4), IP_PROTOCOL + 41: _in_ip(IPV6)},
    **{IP_PROTOCOL + 47: gre, VXLAN: vxlan},
}
