"""A packet on one line: `IP 10.0.0.2:9203 > 10.0.0.1:80 TCP [S] seq 437136853, length 0`.

From the outside to the inside: tags and labels, addresses with ports, the protocol with
what it says, `length` of what it carries. An encapsulation stands before what is in it. A
header that is not all there is `[|name]`, as tcpdump writes it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from xdpcap.packets.dissect.layers import (
    Arp,
    Chunk,
    Cooked,
    Cut,
    Dissection,
    Ethernet,
    Extension,
    Framing,
    Gre,
    Icmp,
    Invalid,
    Ip,
    Layer,
    Mpls,
    Payload,
    Sctp,
    Tcp,
    Udp,
    Vlan,
    Vxlan,
)
from xdpcap.packets.dissect.numbers import (
    ARP_OPERATIONS,
    DIRECTIONS,
    EXTENSIONS,
    ICMP_CODES,
    ICMP_TYPES,
    ICMPV6_CODES,
    ICMPV6_TYPES,
    LEAST_ETHERTYPE,
    SCTP_CHUNKS,
    VLAN_TPIDS,
    ethertype_name,
)

# As tcpdump writes them, from the lowest bit; "." is ACK.
_TCP_FLAGS = "FSRP.UEWe"
_ADDRESSES_KEPT = 1 << 14


@dataclass(frozen=True, slots=True)
class Style:
    """How much a line tells: `link` the outer link header, `quiet` less, `verbose` more."""

    link: bool = False
    quiet: bool = False
    verbose: bool = False


@lru_cache(_ADDRESSES_KEPT)
def address(raw: bytes) -> str:
    """An address as text: IPv4, IPv6 or, of any other length, bytes with colons."""
    if len(raw) == 4:
        return socket.inet_ntoa(raw)
    return socket.inet_ntop(socket.AF_INET6, raw) if len(raw) == 16 else raw.hex(":")


@lru_cache(1 << 9)
def tcp_flags(flags: int) -> str:
    """`S.` for SYN and ACK; "" for none."""
    return "".join(letter for bit, letter in enumerate(_TCP_FLAGS) if flags >> bit & 1)


def packet_text(packet: Dissection, origlen: int, style: Style) -> str:
    """The packet's line, without its time. `origlen` is its length on the wire."""
    layers = packet.layers
    outer = layers[0]
    words = [_outer_link(outer, origlen)] if style.link and _is_link(outer) else []
    if type(outer) is Ethernet and not style.link and _is_plain(layers):
        words.append(f"Ethernet {address(outer.source)} > {address(outer.destination)}")
    for index, layer in enumerate(layers):
        show = _SHOW.get(type(layer))
        if show is not None:
            words.append(show(layer, layers, index, style))
    # What was no more than a link header.
    return " ".join(words) or f"{_link_name(outer)} length {origlen}"


def _is_link(layer: Layer) -> bool:
    return isinstance(layer, Ethernet | Cooked | Framing)


def _link_name(layer: Layer) -> str:
    return layer.name if isinstance(layer, Framing) else layer.protocol


def _is_plain(layers: list[Layer]) -> bool:
    """Whether all there is beside the Ethernet header and its tags is not known."""
    # The last one first: it settles nearly every packet.
    known = (layer for layer in reversed(layers[1:]) if type(layer) not in (Vlan, Payload, Cut))
    return next(known, None) is None


# ---------------------------------------------------------------------------- link headers


def _outer_link(layer: Any, origlen: int) -> str:
    if isinstance(layer, Ethernet):
        kind = layer.type
        said = "802.3" if kind < LEAST_ETHERTYPE else f"ethertype {ethertype_name(kind)}"
        ends = f"{address(layer.source)} > {address(layer.destination)}"
        return f"{ends}, {said}, length {origlen}:"
    if isinstance(layer, Cooked):
        way = DIRECTIONS.get(layer.direction, str(layer.direction))
        port = "" if layer.ifindex is None else f"ifindex {layer.ifindex}, "
        source = f" {address(layer.source)}" if layer.source else ""
        return f"{port}{way}{source}, ethertype {ethertype_name(layer.type)}, length {origlen}:"
    return f"{layer.name} 0x{layer.type:04x}, length {origlen}:"


def _inner_ethernet(layer: Ethernet, layers: list[Layer], index: int, style: Style) -> str:
    return f"Ethernet {address(layer.source)} > {address(layer.destination)}"


def _vlan(layer: Vlan, layers: list[Layer], index: int, style: Style) -> str:
    name = f"{VLAN_TPIDS.get(layer.tpid, 'VLAN')} {layer.id}"
    if layer.priority:
        name += f" p{layer.priority}"
    return f"{name} DEI" if layer.drop_eligible else name


def _mpls(layer: Mpls, layers: list[Layer], index: int, style: Style) -> str:
    more = f" (exp {layer.traffic_class}, ttl {layer.ttl})" if style.verbose else ""
    return f"MPLS {layer.label}{more}"


def _arp(layer: Arp, layers: list[Layer], index: int, style: Style) -> str:
    sender, target = address(layer.sender), address(layer.target)
    if layer.operation == 1:
        known = f" ({address(layer.target_mac)})" if any(layer.target_mac) else ""
        said = f"who-has {target}{known} tell {sender}"
    elif layer.operation == 2:
        said = f"{sender} is-at {address(layer.sender_mac)}"
    else:
        name = ARP_OPERATIONS.get(layer.operation, f"operation {layer.operation}")
        said = f"{name} {address(layer.sender_mac)} {sender} > {address(layer.target_mac)} {target}"
    return f"ARP {said}, length {layer.length}"


# ------------------------------------------------------------------------------------- IP


def _ip(layer: Ip, layers: list[Layer], index: int, style: Style) -> str:
    source, destination = address(layer.source), address(layer.destination)
    following = _after_extensions(layers, index)
    if isinstance(following, Tcp | Udp | Sctp):
        if layer.version == 6:
            source, destination = f"[{source}]", f"[{destination}]"
        source = f"{source}:{following.source_port}"
        destination = f"{destination}:{following.destination_port}"
    name = "IP" if layer.version == 4 else "IP6"
    if style.verbose:
        name = f"{name} ({_ip_details(layer)})"
    line = f"{name} {source} > {destination}"
    if layer.fragment_offset or layer.more_fragments:
        more = "+" if layer.more_fragments else ""
        # As tcpdump had it before it moved this to -v.
        line += f" (frag {layer.id}:{layer.length}@{layer.fragment_offset}{more})"
    return line


def _after_extensions(layers: list[Layer], index: int) -> Layer | None:
    for layer in layers[index + 1 :]:
        if type(layer) is not Extension:
            return layer
    return None


def _ip_details(layer: Ip) -> str:
    if layer.version == 6:
        return f"class 0x{layer.traffic_class:02x}, flow 0x{layer.flow_label:05x}, hlim {layer.ttl}"
    mark = ", DF" if layer.dont_fragment else ""
    return f"tos 0x{layer.traffic_class:02x}, ttl {layer.ttl}, id {layer.id}{mark}"


def _extension(layer: Extension, layers: list[Layer], index: int, style: Style) -> str:
    return EXTENSIONS.get(layer.number, str(layer.number))


def _gre(layer: Gre, layers: list[Layer], index: int, style: Style) -> str:
    key = "" if layer.key is None else f" key 0x{layer.key:x}"
    seq = "" if layer.seq is None or not style.verbose else f" seq {layer.seq}"
    return f"GRE{key}{seq}"


def _vxlan(layer: Vxlan, layers: list[Layer], index: int, style: Style) -> str:
    return f"VXLAN {layer.id}"


# ------------------------------------------------------------------------------ transport


def _tcp(layer: Tcp, layers: list[Layer], index: int, style: Style) -> str:
    if style.quiet:
        return f"TCP length {layer.length}"
    line = f"TCP [{tcp_flags(layer.flags)}] seq " if layer.flags else "TCP seq "
    line += str(layer.seq)
    if layer.flags & 0x10:
        line += f", ack {layer.ack}"
    if style.verbose:
        line += f", win {layer.window}"
        if layer.options:
            line += f", options [{','.join(tcp_options(layer.options))}]"
    return f"{line}, length {layer.length}"


def tcp_options(raw: bytes) -> list[str]:
    """The options of a TCP header, each as tcpdump writes it; a broken one is "bad"."""
    shown: list[str] = []
    at = 0
    while at < len(raw):
        kind = raw[at]
        if kind < 2:
            shown.append("nop" if kind else "eol")
            at += 1
            continue
        length = raw[at + 1] if at + 1 < len(raw) else 0
        if length < 2 or at + length > len(raw):
            shown.append("bad")
            break
        shown.append(_tcp_option(kind, raw[at + 2 : at + length]))
        at += length
    return shown


def _tcp_option(kind: int, value: bytes) -> str:
    number = int.from_bytes(value, "big")
    match kind, len(value):
        case 2, 2:
            return f"mss {number}"
        case 3, 1:
            return f"wscale {number}"
        case 4, 0:
            return "sackOK"
        case 5, size if size and size % 8 == 0:
            words = [int.from_bytes(value[i : i + 4], "big") for i in range(0, size, 4)]
            pairs = zip(words[::2], words[1::2], strict=True)
            return "sack " + "".join(f"{{{left}:{right}}}" for left, right in pairs)
        case 8, 8:
            return f"TS val {number >> 32} ecr {number & 0xFFFFFFFF}"
    return f"unknown-{kind}{' 0x' + value.hex() if value else ''}"


def _udp(layer: Udp, layers: list[Layer], index: int, style: Style) -> str:
    if index + 1 < len(layers) and type(layers[index + 1]) is Vxlan:
        return "UDP"
    return f"UDP length {layer.length}"


def _icmp(layer: Icmp, layers: list[Layer], index: int, style: Style) -> str:
    name, types = ("ICMP", ICMP_TYPES) if layer.version == 4 else ("ICMPv6", ICMPV6_TYPES)
    said = types.get(layer.type, f"type {layer.type} code {layer.code}")
    if not style.quiet:
        said = ", ".join((said, *_icmp_details(layer, said)))
    return f"{name} {said}, length {layer.length}"


def _icmp_details(layer: Icmp, said: str) -> Iterator[str]:
    if said.startswith("echo "):
        yield f"id {layer.rest >> 16}, seq {layer.rest & 0xFFFF}"
    elif said == "unreachable":
        codes = ICMP_CODES if layer.version == 4 else ICMPV6_CODES
        yield codes.get(layer.code, f"code {layer.code}")
        if layer.version == 4 and layer.code == 4:
            yield f"mtu {layer.rest & 0xFFFF}"
    elif said == "packet too big":
        yield f"mtu {layer.rest}"
    elif said == "redirect" and layer.version == 4:
        yield f"to {address(layer.rest.to_bytes(4, 'big'))}"
    if layer.target:
        who = {135: "who has", 136: "tgt is", 137: "to"}[layer.type]
        yield f"{who} {address(layer.target)}"


def _sctp(layer: Sctp, layers: list[Layer], index: int, style: Style) -> str:
    if style.quiet or not layer.chunks:
        return f"SCTP length {layer.length}"
    return f"SCTP {', '.join(map(_chunk, layer.chunks))}, length {layer.length}"


def _chunk(chunk: Chunk) -> str:
    name = SCTP_CHUNKS.get(chunk.type, f"chunk {chunk.type}")
    if chunk.number is None:
        return name
    what = "tag" if name.startswith("INIT") else "tsn" if name.endswith("DATA") else "ack"
    return f"{name} {what} {chunk.number}"


# ------------------------------------------------------------------------------- the rest


def _payload(layer: Payload, layers: list[Layer], index: int, style: Style) -> str:
    return f"{layer.name}, length {layer.length}"


def _cut(layer: Cut, layers: list[Layer], index: int, style: Style) -> str:
    return f"[|{layer.name}]"


def _invalid(layer: Invalid, layers: list[Layer], index: int, style: Style) -> str:
    return f"{layer.name} invalid ({layer.cause})"


_SHOW: dict[type[Layer], Callable[[Any, list[Layer], int, Style], str]] = {
    **{Vlan: _vlan, Mpls: _mpls, Arp: _arp, Ip: _ip, Extension: _extension},
    **{Gre: _gre, Vxlan: _vxlan, Tcp: _tcp, Udp: _udp, Icmp: _icmp, Sctp: _sctp},
    **{Payload: _payload, Cut: _cut, Invalid: _invalid},
}
