"""Frames of known content: valid Ethernet, IP, UDP and TCP, with every checksum right.

`numbered_frame` is the tests' unit: its number stands at a fixed place and its bytes
follow from size and number, so loss, order and content can all be told from what
arrived.  `mixed_frames` looks like a network at work.

Source relied on: RFC 791, 8200 (IP), 768 (UDP), 9293 (TCP), 1071 (checksum);
IEEE 802.3 and 802.1Q.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator

RX_MAC, TX_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
# TEST-NET-1 (RFC 5737) and the documentation prefix (RFC 3849).
TX_IPV4, RX_IPV4 = "192.0.2.2", "192.0.2.1"
TX_IPV6, RX_IPV6 = "2001:db8::2", "2001:db8::1"

ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_VLAN, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x8100, 0x86DD
PROTOCOL_TCP, PROTOCOL_UDP = 6, 17
# Nothing guesses at the payload of this port's packets (RFC 863).
DISCARD = 9

# Ethernet without FCS: what is shorter is padded with zeros by whoever sends it.
ETHERNET_MIN_BYTES = 60
# After 14 bytes of Ethernet, 20 of IPv4 and 8 of UDP.
NUMBER_OFFSET = 42
NUMBERED_RANGE = range(NUMBER_OFFSET + 8, 14 + 65535 + 1)

_PATTERN = bytes(range(256)) * 258


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of `data`, 0 to 65535."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(payload: bytes, ethertype: int, *, vlan: int | None = None) -> bytes:
    """A frame from the sender to the receiver; `vlan` is a tag's 16 bits, host order."""
    tag = b"" if vlan is None else struct.pack("!HH", ETHERTYPE_VLAN, vlan)
    header = _mac(RX_MAC) + _mac(TX_MAC) + tag + struct.pack("!H", ethertype)
    return (header + payload).ljust(ETHERNET_MIN_BYTES, b"\0")


def ipv4(payload: bytes, protocol: int, *, identification: int = 0) -> bytes:
    """An IPv4 packet from the sender to the receiver."""
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(payload),
        identification & 0xFFFF,
        0x4000,  # don't fragment
        64,
        protocol,
        0,
        _ipv4(TX_IPV4),
        _ipv4(RX_IPV4),
    )
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def ipv6(payload: bytes, protocol: int) -> bytes:
    """An IPv6 packet from the sender to the receiver."""
    addresses = _ipv6(TX_IPV6) + _ipv6(RX_IPV6)
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + addresses + payload


def udp(payload: bytes, source: int, destination: int, *, version: int = 4) -> bytes:
    """A UDP datagram, its checksum over the pseudo header of IP `version`."""
    length = 8 + len(payload)
    header = struct.pack("!HHHH", source, destination, length, 0)
    value = checksum(_pseudo(version, PROTOCOL_UDP, length) + header + payload)
    # 0 means "no checksum"; the same sum is written as all ones (RFC 768).
    return header[:6] + struct.pack("!H", value or 0xFFFF) + payload


def tcp(
    payload: bytes, source: int, destination: int, *, sequence: int, flags: int, version: int = 4
) -> bytes:
    """A TCP segment without options, its checksum over the pseudo header of IP `version`."""
    length = 20 + len(payload)
    ports = struct.pack("!HHII", source, destination, sequence & 0xFFFFFFFF, 0)
    header = ports + struct.pack("!BBHHH", 5 << 4, flags, 65535, 0, 0)
    value = checksum(_pseudo(version, PROTOCOL_TCP, length) + header + payload)
    return header[:16] + struct.pack("!H", value) + header[18:] + payload


def arp_request() -> bytes:
    """The sender asks for the receiver's address."""
    body = struct.pack("!HHBBH", 1, ETHERTYPE_IPV4, 6, 4, 1)
    return body + _mac(TX_MAC) + _ipv4(TX_IPV4) + bytes(6) + _ipv4(RX_IPV4)


def numbered_frame(size: int, number: int) -> bytes:
    """An Ethernet/IPv4/UDP frame of exactly `size` bytes (50 to 65549) with its number.

    The number is 64 bits, big endian, at offset 42; what follows is a pattern that
    depends on it.  Raises ValueError for a size that can't hold it.
    """
    if size not in NUMBERED_RANGE:
        raise ValueError(f"a numbered frame has 50 to 65549 bytes, not {size}")
    filler = number % 256
    payload = struct.pack("!Q", number) + _PATTERN[filler : filler + size - NUMBER_OFFSET - 8]
    datagram = udp(payload, 49152 + number % 16384, DISCARD)
    packet = ipv4(datagram, PROTOCOL_UDP, identification=number)
    return _mac(RX_MAC) + _mac(TX_MAC) + struct.pack("!H", ETHERTYPE_IPV4) + packet


def blasted_frame(size: int, number: int) -> bytes:
    """The frame that `traffic.blast` sends as its `number`-th (from 0) of `size` bytes.

    All frames of a blast are one template with the number written in, so its UDP
    checksum is 0: "none was computed".
    """
    template = numbered_frame(size, 0)
    return template[:40] + struct.pack("!HQ", 0, number) + template[NUMBER_OFFSET + 8 :]


def frame_number(frame: bytes) -> int:
    """The number of a frame that `numbered_frame` or `blasted_frame` made."""
    return int.from_bytes(frame[NUMBER_OFFSET : NUMBER_OFFSET + 8], "big")


def mixed_frames(count: int, *, mtu: int = 1500, seed: int = 1) -> Iterator[bytes]:
    """`count` frames of several protocols, flows and sizes; the same for the same seed.

    Sizes follow the Internet's two humps: many small, many full, some between.
    """
    draw = random.Random(seed)
    sequences: dict[tuple[int, int], int] = {}
    for index in range(count):
        room = mtu - 60  # the longest headers: IPv6 40, TCP 20
        size = draw.choices((draw.randrange(90), draw.randrange(room), room), (5, 2, 3))[0]
        payload = draw.randbytes(size)
        flow = draw.randrange(50000, 50016)
        kind = draw.choices(("tcp", "udp", "tcp6", "udp6", "vlan", "arp"), (10, 5, 3, 2, 1, 0.2))[0]
        if kind == "arp":
            yield ethernet(arp_request(), ETHERTYPE_ARP)
            continue
        version = 6 if kind.endswith("6") else 4
        if kind.startswith("tcp"):
            sequence = sequences.get((version, flow), 0)
            flags = 0x10 if sequence else 0x02  # ACK, or SYN for a flow's first
            payload = payload if sequence else b""
            segment = tcp(payload, flow, DISCARD, sequence=sequence, flags=flags, version=version)
            sequences[version, flow] = sequence + (len(payload) if sequence else 1)
            protocol = PROTOCOL_TCP
        else:
            segment, protocol = udp(payload, flow, DISCARD, version=version), PROTOCOL_UDP
        vlan = 100 + flow % 4 if kind == "vlan" else None
        if version == 6:
            yield ethernet(ipv6(segment, protocol), ETHERTYPE_IPV6)
        else:
            packet = ipv4(segment, protocol, identification=index)
            yield ethernet(packet, ETHERTYPE_IPV4, vlan=vlan)


def _pseudo(version: int, protocol: int, length: int) -> bytes:
    if version == 6:
        return _ipv6(TX_IPV6) + _ipv6(RX_IPV6) + struct.pack("!II", length, protocol)
    return _ipv4(TX_IPV4) + _ipv4(RX_IPV4) + struct.pack("!HH", protocol, length)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ipv4(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET, text)


def _ipv6(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, text)
