"""Packets made by hand, for tests: only what is looked at, checksums left at 0."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from xdpcap.packets.packet_set import PacketSet

MACS = {0: bytes.fromhex("020000000000"), 1: bytes.fromhex("020000000001")}
TCP, UDP, ICMP = 6, 17, 1
SYN, ACK = 2, 16


def ethernet(kind: int, payload: bytes, source: int = 0, *, vlans: tuple[int, ...] = ()) -> bytes:
    """A frame from the host `source` (0 or 1) to the other one."""
    tags = b"".join(struct.pack("!HH", 0x8100, vlan) for vlan in vlans)
    head = MACS[1 - source] + MACS[source] + tags + struct.pack("!H", kind)
    return head + payload


def transport(protocol: int, ports: tuple[int, int] | None, flags: int = ACK) -> bytes:
    """A header of TCP or UDP, or what ICMP may hold."""
    if ports is None:
        return bytes(8)
    if protocol == TCP:
        return struct.pack("!HHIIBBHHH", *ports, 1, 1, 5 << 4, flags, 8192, 0, 0)
    return struct.pack("!HHHH", *ports, 8, 0)


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
    body = transport(protocol, ports, flags)
    ends = ip_address(source).packed + ip_address(target).packed
    if len(ends) == 8:
        head = struct.pack(
            "!BBHHHBBH", 0x45, 0, 20 + len(body), 1, fragment, 64, protocol, 0
        )  # fmt: skip
        return ethernet(0x0800, head + ends + body, host, vlans=vlans)
    head = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64)
    return ethernet(0x86DD, head + ends + body, host, vlans=vlans)


def arp(sender: str, target: str, host: int = 0) -> bytes:
    """An ARP request (RFC 826)."""
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    ends = MACS[host] + ip_address(sender).packed + bytes(6) + ip_address(target).packed
    return ethernet(0x0806, head + ends, host)


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
