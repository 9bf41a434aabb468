"""The packets by which somebody holds on to this host, for a filter to be asked about.

An SSH session's segments in both directions, and the answers of ARP and neighbour discovery that
lead to its other end. They are only matched against filters, never sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pyroute2 import IPRoute

from xdpcap.net.ssh_sessions import NO_MAC, Address, SshSession, Way, mac_of, parse_mac
from xdpcap.packets import build
from xdpcap.packets.build import ARP_REPLY, ARP_REQUEST, TCP_ACK, TCP_PSH

# Bytes of a bare acknowledgement, a keystroke and a screenful: filters may ask for the length.
PAYLOADS = (0, 36, 1400)
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
BROADCAST = b"\xff" * 6


class Frames:
    """Makes the frames as they pass a link; `above` are the indexes of what rests on it.

    Where a VLAN device is among those each frame is made with its tag as well, since a route does
    not say what has become of a packet on its way down to the link.
    """

    def __init__(self, ipr: IPRoute, messages: Mapping[int, Any], above: list[int]) -> None:
        self.ipr = ipr
        self.above = above
        self._messages = messages
        self._vlans = [
            info
            for index in above
            if (info := messages[index].get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")) is not None
            and messages[index].get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "vlan"
        ]

    def of_session(self, session: SshSession, way: Way | None) -> Iterator[bytes]:
        """TCP segments of the session, from its client to this host and back."""
        own, far = self._macs(way)
        client, server = (
            (session.client, session.client_port),
            (session.server, session.server_port),
        )
        for size in PAYLOADS:
            yield from self._tagged(own, far, *_segment(client, server, size))
            yield from self._tagged(far, own, *_segment(server, client, size))

    def of_resolution(self, way: Way, own_address: Address | None) -> Iterator[bytes]:
        """What comes in from the next hop when one of the two looks for the other's address."""
        own, far = self._macs(way)
        hop = way.next_hop
        if own_address is None or own_address.version != hop.version:
            own_address = way.own or hop
        if hop.version == 4:
            ends = (far, hop.packed, own, own_address.packed)
            yield from self._tagged(own, far, build.ETHERTYPE_ARP, build.arp(ARP_REPLY, *ends))
            ends = (far, hop.packed, NO_MAC, own_address.packed)
            request = build.arp(ARP_REQUEST, *ends)
            yield from self._tagged(BROADCAST, far, build.ETHERTYPE_ARP, request)
        else:
            for kind, about in (
                (NEIGHBOUR_ADVERTISEMENT, hop),
                (NEIGHBOUR_SOLICITATION, own_address),
            ):
                message = _neighbour(kind, about, far)
                addresses = (hop.packed, own_address.packed)
                packet = build.ip(addresses, build.PROTOCOL_ICMPV6, message, hop_limit=255)
                yield from self._tagged(own, far, build.ETHERTYPE_IPV6, packet)

    def _macs(self, way: Way | None) -> tuple[bytes, bytes]:
        """This host's address of the link layer, and that of the next hop."""
        if way is None:
            return NO_MAC, NO_MAC
        return parse_mac(self._messages[way.index].get_attr("IFLA_ADDRESS")), mac_of(self.ipr, way)

    def _tagged(
        self, target: bytes, source: bytes, ethertype: int, packet: bytes
    ) -> Iterable[bytes]:
        yield build.ethernet(target, source, ethertype, packet)
        for info in self._vlans:
            tpid = info.get_attr("IFLA_VLAN_PROTOCOL") or build.ETHERTYPE_VLAN
            tag = (tpid, info.get_attr("IFLA_VLAN_ID"))
            yield build.ethernet(target, source, ethertype, packet, tags=[tag])


def _segment(
    source: tuple[Address, int], target: tuple[Address, int], size: int
) -> tuple[int, bytes]:
    """EtherType and packet of a TCP segment with `size` bytes of data."""
    flags = TCP_ACK | TCP_PSH if size else TCP_ACK
    ends = source[0].packed, target[0].packed
    segment = build.tcp((source[1], target[1]), bytes(size), flags=flags)
    return build.ethertype_of(ends[0]), build.ip(ends, build.PROTOCOL_TCP, segment)


def _neighbour(kind: int, about: Address, mac: bytes) -> bytes:
    """RFC 4861, sections 4.3 and 4.4, with the sender's link-layer address as the option."""
    option = 1 if kind == NEIGHBOUR_SOLICITATION else 2
    return struct.pack(">BBHI", kind, 0, 0, 0) + about.packed + bytes([option, 1]) + mac
