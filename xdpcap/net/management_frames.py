"""The packets by which somebody holds on to this host, for a filter to be asked about.

An SSH session's segments in both directions, and the answers of ARP and neighbour discovery that
lead to its other end. They are made to be looked at, never sent: no checksum is filled in.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pyroute2 import IPRoute

from xdpcap.net.ssh_sessions import NO_MAC, Address, SshSession, Way, mac_of, parse_mac

ETH_P_IP, ETH_P_ARP, ETH_P_IPV6, ETH_P_8021Q = 0x0800, 0x0806, 0x86DD, 0x8100
IPPROTO_TCP, IPPROTO_ICMPV6 = 6, 58
ACK, PSH = 0x10, 0x08
# Bytes of a bare acknowledgement, a keystroke and a screenful: filters may ask for the length.
PAYLOADS = (0, 36, 1400)
# A frame of Ethernet is padded to this, without its checksum.
MIN_FRAME = 60
ARP_REQUEST, ARP_REPLY = 1, 2
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
            ends = (far, hop, own, own_address)
            yield from self._tagged(own, far, ETH_P_ARP, _arp(ARP_REPLY, *ends))
            ends = (far, hop, NO_MAC, own_address)
            yield from self._tagged(BROADCAST, far, ETH_P_ARP, _arp(ARP_REQUEST, *ends))
        else:
            for kind, about in (
                (NEIGHBOUR_ADVERTISEMENT, hop),
                (NEIGHBOUR_SOLICITATION, own_address),
            ):
                message = _neighbour(kind, about, far)
                packet = _ipv6(hop, own_address, IPPROTO_ICMPV6, message, hop_limit=255)
                yield from self._tagged(own, far, ETH_P_IPV6, packet)

    def _macs(self, way: Way | None) -> tuple[bytes, bytes]:
        """This host's address of the link layer, and that of the next hop."""
        if way is None:
            return NO_MAC, NO_MAC
        return parse_mac(self._messages[way.index].get_attr("IFLA_ADDRESS")), mac_of(self.ipr, way)

    def _tagged(
        self, target: bytes, source: bytes, ethertype: int, packet: bytes
    ) -> Iterable[bytes]:
        rest = ethertype.to_bytes(2, "big") + packet
        yield (target + source + rest).ljust(MIN_FRAME, b"\0")
        for info in self._vlans:
            protocol = info.get_attr("IFLA_VLAN_PROTOCOL") or ETH_P_8021Q
            tag = struct.pack(">HH", protocol, info.get_attr("IFLA_VLAN_ID"))
            yield (target + source + tag + rest).ljust(MIN_FRAME, b"\0")


def _segment(
    source: tuple[Address, int], target: tuple[Address, int], size: int
) -> tuple[int, bytes]:
    """EtherType and packet of a TCP segment with `size` bytes of data."""
    flags = ACK | PSH if size else ACK
    # Ports, sequence and acknowledgement, five words of header, window, checksum, urgent pointer.
    tcp = struct.pack(">HHIIBBHHH", source[1], target[1], 1, 1, 5 << 4, flags, 502, 0, 0)
    if source[0].version == 4:
        return ETH_P_IP, _ipv4(source[0], target[0], IPPROTO_TCP, tcp + bytes(size))
    return ETH_P_IPV6, _ipv6(source[0], target[0], IPPROTO_TCP, tcp + bytes(size))


def _ipv4(source: Address, target: Address, protocol: int, payload: bytes) -> bytes:
    """RFC 791, section 3.1: five words of header, don't fragment, TTL 64."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0)
    return head + source.packed + target.packed + payload


def _ipv6(
    source: Address, target: Address, protocol: int, payload: bytes, hop_limit: int = 64
) -> bytes:
    """RFC 8200, section 3."""
    head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, hop_limit)
    return head + source.packed + target.packed + payload


def _arp(kind: int, mac: bytes, address: Address, to_mac: bytes, to: Address) -> bytes:
    """RFC 826, for Ethernet and IPv4."""
    head = struct.pack(">HHBBH", 1, ETH_P_IP, 6, 4, kind)
    return head + mac + address.packed + to_mac + to.packed


def _neighbour(kind: int, about: Address, mac: bytes) -> bytes:
    """RFC 4861, sections 4.3 and 4.4, with the sender's link-layer address as the option."""
    option = 1 if kind == NEIGHBOUR_SOLICITATION else 2
    return struct.pack(">BBHI", kind, 0, 0, 0) + about.packed + bytes([option, 1]) + mac
