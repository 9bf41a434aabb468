"""Packets made by hand, for tests: only what is looked at, checksums left at 0."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from xdpcap.packets import build
from xdpcap.packets.packet_set import PacketSet

MACS = {0: bytes.fromhex("020000000000"), 1: bytes.fromhex("020000000001")}
TCP, UDP, ICMP = build.PROTOCOL_TCP, build.PROTOCOL_UDP, build.PROTOCOL_ICMP
SYN, ACK = build.TCP_SYN, build.TCP_ACK


def ethernet(kind: int, payload: bytes, source: int = 0, *, vlans: tuple[int, ...] = ()) -> bytes:
    """A frame from the host `source` (0 or 1) to the other one, not padded."""
    tags = [(build.ETHERTYPE_VLAN, vlan) for vlan in vlans]
    return build.ethernet(MACS[1 - source], MACS[source], kind, payload, tags=tags, pad=False)


def transport(protocol: int, ports: tuple[int, int] | None, flags: int = ACK) -> bytes:
    """A header of TCP or UDP, or what ICMP may hold."""
    if ports is None:
        return bytes(8)
    if protocol == TCP:
        return build.tcp(ports, b"", flags=flags, window=8192)
    return build.udp(ports, b"")


def ip_packet(
    source: str,
    target: str,
    protocol: int = TCP,
    ports: tuple[int, int] | None = None,
    *,
    flags: int = ACK,
    fragment: int = 0,
    host: int = 0,
    vlans: tuple[int, ...] = (),
) -> bytes:
    """A frame with an IPv4 or IPv6 packet; `fragment` is the field of flags and offset."""
    ends = ip_address(source).packed, ip_address(target).packed
    body = transport(protocol, ports, flags)
    packet = build.ip(
        ends, protocol, body, identification=1, fragment=fragment, with_checksum=False
    )
    return ethernet(build.ethertype_of(ends[0]), packet, host, vlans=vlans)


def arp(sender: str, target: str, host: int = 0) -> bytes:
    """An ARP request (RFC 826)."""
    ends = (ip_address(sender).packed, bytes(6), ip_address(target).packed)
    return ethernet(build.ETHERTYPE_ARP, build.arp(build.ARP_REQUEST, MACS[host], *ends), host)


def packet_set(*packets: bytes) -> PacketSet:
    """A set with these packets, numbered from 1."""
    made = PacketSet()
    for packet in packets:
        made.append(packet)
    return made


def pcap(*packets: bytes, linktype: int = 1) -> bytes:
    """A capture file with a packet every millisecond."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, linktype)]
    for number, packet in enumerate(packets):
        parts.append(struct.pack("<IIII", 1000, number * 1000, len(packet), len(packet)) + packet)
    return b"".join(parts)
