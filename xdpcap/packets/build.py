"""Build Ethernet, ARP, IPv4, IPv6, UDP and TCP headers around a payload.

Addresses are packed bytes: 6 for a MAC address, 4 or 16 for an IP address, whose length decides
the version. Checksums are computed where the ends are given, else they are 0.

Source relied on: RFC 791, 8200 (IP), 768 (UDP), 9293 (TCP), 826 (ARP), 1071 (checksum);
IEEE 802.3 and 802.1Q.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_VLAN, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x8100, 0x86DD
PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_ICMPV6 = 1, 6, 17, 58
TCP_SYN, TCP_PSH, TCP_ACK = 0x02, 0x08, 0x10
ARP_REQUEST, ARP_REPLY = 1, 2
DONT_FRAGMENT = 0x4000
# Ethernet without FCS: what is shorter is padded with zeros by whoever sends it.
ETHERNET_MIN_BYTES = 60

Ends = tuple[bytes, bytes]
Ports = tuple[int, int]


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of `data`, 0 to 65535."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(
    target: bytes,
    source: bytes,
    ethertype: int,
    payload: bytes,
    *,
    tags: Iterable[tuple[int, int]] = (),
    pad: bool = True,
) -> bytes:
    """A frame, padded to 60 bytes; `tags` are (TPID, TCI) pairs, the outermost first."""
    stack = b"".join(struct.pack("!HH", *tag) for tag in tags)
    frame = target + source + stack + struct.pack("!H", ethertype) + payload
    return frame.ljust(ETHERNET_MIN_BYTES, b"\0") if pad else frame


def ethertype_of(address: bytes) -> int:
    """The EtherType of the IP version that an address is of."""
    return ETHERTYPE_IPV4 if len(address) == 4 else ETHERTYPE_IPV6


def ip(
    ends: Ends,
    protocol: int,
    payload: bytes,
    *,
    identification: int = 0,
    fragment: int = DONT_FRAGMENT,
    hop_limit: int = 64,
    with_checksum: bool = True,
) -> bytes:
    """An IPv4 or IPv6 packet; `fragment` holds the IPv4 flags and fragment offset."""
    source, target = ends
    if len(source) == 16:
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hop_limit)
        return head + source + target + payload
    head = struct.pack(
        "!BBHHHBBH",
        0x45,
        0,
        20 + len(payload),
        identification & 0xFFFF,
        fragment,
        hop_limit,
        protocol,
        0,
    )
    value = checksum(head + source + target) if with_checksum else 0
    return head[:10] + struct.pack("!H", value) + source + target + payload


def udp(ports: Ports, payload: bytes, *, ends: Ends | None = None) -> bytes:
    """A UDP datagram."""
    length = 8 + len(payload)
    header = struct.pack("!HHHH", *ports, length, 0)
    if ends is None:
        return header + payload
    value = checksum(_pseudo_header(ends, PROTOCOL_UDP, length) + header + payload)
    # 0 means "no checksum"; the same sum is written as all ones (RFC 768).
    return header[:6] + struct.pack("!H", value or 0xFFFF) + payload


def tcp(
    ports: Ports,
    payload: bytes,
    *,
    sequence: int = 1,
    acknowledgement: int = 1,
    flags: int = TCP_ACK,
    window: int = 65535,
    ends: Ends | None = None,
) -> bytes:
    """A TCP segment without options."""
    numbers = struct.pack("!HHII", *ports, sequence & 0xFFFFFFFF, acknowledgement)
    header = numbers + struct.pack("!BBHHH", 5 << 4, flags, window, 0, 0)
    if ends is None:
        return header + payload
    pseudo = _pseudo_header(ends, PROTOCOL_TCP, len(header) + len(payload))
    value = checksum(pseudo + header + payload)
    return header[:16] + struct.pack("!H", value) + header[18:] + payload


def arp(
    operation: int, sender_mac: bytes, sender: bytes, target_mac: bytes, target: bytes
) -> bytes:
    """An ARP packet for Ethernet and IPv4."""
    head = struct.pack("!HHBBH", 1, ETHERTYPE_IPV4, 6, 4, operation)
    return head + sender_mac + sender + target_mac + target


def _pseudo_header(ends: Ends, protocol: int, length: int) -> bytes:
    source, target = ends
    if len(source) == 16:
        return source + target + struct.pack("!II", length, protocol)
    return source + target + struct.pack("!HH", protocol, length)
