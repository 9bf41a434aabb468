"""Link headers, tags, labels and ARP.

Source relied on: IEEE 802.3, 802.1Q and 802.2; RFC 826, 1661, 3032; pcap-linktype(7) and
the LINKTYPE descriptions of tcpdump.org, whose numbers here are libpcap's DLT on Linux.
"""

from __future__ import annotations

import struct

from xdpcap.packets.dissect.layers import (
    Arp,
    Cooked,
    Ethernet,
    Framing,
    Invalid,
    Mpls,
    Payload,
    Vlan,
)
from xdpcap.packets.dissect.numbers import (
    ARP,
    ETHERTYPES,
    IPV4,
    IPV6,
    LEAST_ETHERTYPE,
    MPLS_TYPES,
    RARP,
    VLAN_TPIDS,
    ethertype_name,
)
from xdpcap.packets.dissect.walk import IP_PROTOCOL, LINK, LLC, Dissector, Next, Walk

# pcap/dlt.h
DLT_NULL, DLT_EN10MB, DLT_PPP, DLT_RAW, DLT_PPP_SERIAL = 0, 1, 9, 12, 50
DLT_C_HDLC, DLT_LOOP, DLT_SLL, DLT_IPV4, DLT_IPV6, DLT_SLL2 = 104, 108, 113, 228, 229, 276

_ETHERNET = struct.Struct("!6s6sH").unpack_from
_TAG = struct.Struct("!HH").unpack_from
_LABEL = struct.Struct("!I").unpack_from
_ARP = struct.Struct("!HHBBH").unpack_from
_ARP_ENDS = struct.Struct("!6s4s6s4s").unpack_from
_SLL = struct.Struct("!HHH8sH").unpack_from
_SLL2 = struct.Struct("!HHIHBB8s").unpack_from
_TYPE = struct.Struct("!H").unpack_from

# Address families of the BSDs, of macOS and of Linux, by what follows.
_AF_INET, _AF_INET6 = {2}, {10, 23, 24, 28, 30}
# RFC 1661 and the protocols of RFC 1332, 5072, 3032.
_PPP_TYPES = {0x0021: IPV4, 0x0057: IPV6, 0x0281: MPLS_TYPES[0], 0x0283: MPLS_TYPES[1]}
_PPP_ADDRESS_CONTROL = b"\xff\x03"

_SNAP, _SNAP_BYTES = b"\xaa\xaa\x03\x00\x00\x00", 8
_BPDU, _IS_IS = b"\x42\x42\x03", b"\xfe\xfe\x03"


def ethernet(walk: Walk, at: int) -> Next:
    """IEEE 802.3; what follows is found by its type, or by 802.2 where that is a length."""
    if at + 14 > walk.end:
        walk.cut("ether")
        return None
    target, source, kind = _ETHERNET(walk.data, at)
    walk.linked(at, at + 14)
    walk.layers.append(Ethernet(source, target, kind, walk.wire_end - at - 14))
    if kind < LEAST_ETHERTYPE:
        walk.limit(min(walk.wire_end, at + 14 + kind))
        return LLC, at + 14
    return kind, at + 14


def llc(walk: Walk, at: int) -> Next:
    """802.2, and with its SNAP header an ethertype."""
    head = walk.data[at : min(at + _SNAP_BYTES, walk.end)]
    if head.startswith(_SNAP) and len(head) == _SNAP_BYTES:
        walk.linked(at, at + _SNAP_BYTES)
        return _TYPE(head, 6)[0], at + _SNAP_BYTES
    # The control field has one byte where it numbers nothing (802.2 section 5.2).
    walk.linked(at, min(at + (3 if head[2:3] and head[2] & 3 == 3 else 4), walk.end))
    name = "STP" if head.startswith(_BPDU) else "IS-IS" if head.startswith(_IS_IS) else "802.2"
    walk.layers.append(Payload(name, walk.wire_end - at))
    return None


def vlan(walk: Walk, at: int) -> Next:
    """A tag; its TPID is the type that led here and stands just before it."""
    if at + 4 > walk.end:
        walk.cut("vlan")
        return None
    control, kind = _TAG(walk.data, at)
    (tpid,) = _TYPE(walk.data, at - 2)
    walk.linked(at, at + 4)
    walk.layers.append(Vlan(tpid, control & 0xFFF, control >> 13, bool(control & 0x1000), kind))
    return (LLC if kind < LEAST_ETHERTYPE else kind), at + 4


def mpls(walk: Walk, at: int) -> Next:
    """One label; below the last one IP is known by its version, and nothing else is."""
    if at + 4 > walk.end:
        walk.cut("mpls")
        return None
    (entry,) = _LABEL(walk.data, at)
    bottom = bool(entry & 0x100)
    walk.layers.append(Mpls(entry >> 12, entry >> 9 & 7, bottom, entry & 0xFF))
    at += 4
    if not bottom:
        return MPLS_TYPES[0], at
    version = walk.data[at] >> 4 if at < walk.end else 0
    if version in (4, 6):
        return (IPV4 if version == 4 else IPV6), at
    walk.layers.append(Payload("data", walk.wire_end - at))
    return None


def arp(walk: Walk, at: int) -> Next:
    """ARP; with other addresses than Ethernet's and IPv4's it is named and no more."""
    if at + 8 > walk.end:
        walk.cut("arp")
        return None
    hardware, protocol, hardware_bytes, protocol_bytes, operation = _ARP(walk.data, at)
    length = walk.wire_end - at
    if (hardware_bytes, protocol_bytes, protocol) != (6, 4, IPV4):
        name = f"ARP hardware {hardware} protocol {ethertype_name(protocol)}"
        walk.layers.append(Payload(name, length))
        return None
    if at + 28 > walk.end:
        walk.cut("arp")
        return None
    sender_mac, sender, target_mac, target = _ARP_ENDS(walk.data, at + 8)
    walk.layers.append(Arp(operation, sender_mac, sender, target_mac, target, length))
    return None


def cooked(walk: Walk, at: int) -> Next:
    """Linux cooked capture (SLL)."""
    if at + 16 > walk.end:
        walk.cut("sll")
        return None
    direction, _, size, source, kind = _SLL(walk.data, at)
    return _below_cooked(walk, at + 16, Cooked(1, direction, source[:size], kind, None, 0))


def cooked_2(walk: Walk, at: int) -> Next:
    """Linux cooked capture, version 2 (SLL2)."""
    if at + 20 > walk.end:
        walk.cut("sll2")
        return None
    kind, _, ifindex, _, direction, size, source = _SLL2(walk.data, at)
    return _below_cooked(walk, at + 20, Cooked(2, direction, source[:size], kind, ifindex, 0))


def _below_cooked(walk: Walk, at: int, layer: Cooked) -> Next:
    layer.length = walk.wire_end - at
    walk.linked(0, at)
    walk.layers.append(layer)
    # 4 is ETH_P_802_2, 1 raw 802.3, which is IPX (linux/if_ether.h).
    return (LLC if layer.type == 4 else layer.type), at


def loopback(walk: Walk, at: int) -> Next:
    """BSD loopback: a family, in the byte order of who captured or of the network."""
    if at + 4 > walk.end:
        walk.cut("null")
        return None
    (family,) = _LABEL(walk.data, at)
    if family >> 16:
        family = int.from_bytes(walk.data[at : at + 4], "little")
    walk.linked(at, at + 4)
    kind = IPV4 if family in _AF_INET else IPV6 if family in _AF_INET6 else 0
    walk.layers.append(Framing("loopback", family, walk.wire_end - at - 4))
    return _or_payload(walk, kind, f"family {family}", at + 4)


def ppp(walk: Walk, at: int) -> Next:
    """PPP, with or without the address and control of its HDLC framing (RFC 1662)."""
    start = at
    if walk.data[at : min(at + 2, walk.end)] == _PPP_ADDRESS_CONTROL:
        at += 2
    if at >= walk.end:
        walk.cut("ppp")
        return None
    number, at = walk.data[at], at + 1
    if not number & 1:  # not compressed to one byte
        if at >= walk.end:
            walk.cut("ppp")
            return None
        number, at = number << 8 | walk.data[at], at + 1
    walk.linked(start, at)
    walk.layers.append(Framing("ppp", number, walk.wire_end - at))
    return _or_payload(walk, _PPP_TYPES.get(number, 0), f"protocol 0x{number:04x}", at)


def cisco_hdlc(walk: Walk, at: int) -> Next:
    """Cisco's HDLC: address, control, ethertype."""
    if at + 4 > walk.end:
        walk.cut("chdlc")
        return None
    (kind,) = _TYPE(walk.data, at + 2)
    walk.linked(at, at + 4)
    walk.layers.append(Framing("chdlc", kind, walk.wire_end - at - 4))
    # Cisco has its keep-alives where IANA has RARP.
    if kind == RARP:
        return _or_payload(walk, 0, "SLARP", at + 4)
    known = kind if kind >= LEAST_ETHERTYPE and kind in ETHERTYPES else 0
    return _or_payload(walk, known, f"type 0x{kind:04x}", at + 4)


def raw(walk: Walk, at: int) -> Next:
    """IP without a link header: by its version, whichever of the two the linktype promises."""
    if at >= walk.end:
        walk.cut("ip")
        return None
    version = walk.data[at] >> 4
    if version not in (4, 6):
        walk.layers.append(Invalid("IP", f"version {version}"))
        return None
    return (IPV4 if version == 4 else IPV6), at


def _or_payload(walk: Walk, kind: int, name: str, at: int) -> Next:
    """What follows when its `kind` is known, else a plain line."""
    if kind:
        return kind, at
    walk.layers.append(Payload(name, walk.wire_end - at))
    return None


TABLE: dict[int, Dissector] = {
    **{LINK + DLT_EN10MB: ethernet, LINK + DLT_SLL: cooked, LINK + DLT_SLL2: cooked_2},
    **{LINK + DLT_NULL: loopback, LINK + DLT_LOOP: loopback, LINK + DLT_C_HDLC: cisco_hdlc},
    **{LINK + DLT_PPP: ppp, LINK + DLT_PPP_SERIAL: ppp, LINK + DLT_RAW: raw},
    **{LINK + DLT_IPV4: raw, LINK + DLT_IPV6: raw},
    **dict.fromkeys(VLAN_TPIDS, vlan),
    **dict.fromkeys(MPLS_TYPES, mpls),
    **{LLC: llc, ARP: arp, RARP: arp},
    IP_PROTOCOL + 137: mpls,
}
