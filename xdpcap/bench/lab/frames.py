"""Frames of known content: valid Ethernet, IP, UDP and TCP, with every checksum right.

`numbered_frame` is the tests' unit: its number stands at a fixed place and its bytes
follow from size and number, so loss, order and content can all be told from what
arrived.  `mixed_frames` looks like a network at work.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from ipaddress import ip_address

from xdpcap.packets import build
from xdpcap.packets.build import (
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ETHERTYPE_VLAN,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
)

RX_MAC, TX_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
# TEST-NET-1 (RFC 5737) and the documentation prefix (RFC 3849).
TX_IPV4, RX_IPV4 = "192.0.2.2", "192.0.2.1"
TX_IPV6, RX_IPV6 = "2001:db8::2", "2001:db8::1"

# Nothing guesses at the payload of this port's packets (RFC 863).
DISCARD = 9

# After 14 bytes of Ethernet, 20 of IPv4 and 8 of UDP.
NUMBER_OFFSET = 42
NUMBERED_RANGE = range(NUMBER_OFFSET + 8, 14 + 65535 + 1)

_RX_MAC, _TX_MAC = (bytes.fromhex(mac.replace(":", "")) for mac in (RX_MAC, TX_MAC))
_ENDS = {
    4: (ip_address(TX_IPV4).packed, ip_address(RX_IPV4).packed),
    6: (ip_address(TX_IPV6).packed, ip_address(RX_IPV6).packed),
}
_PATTERN = bytes(range(256)) * 258


def ethernet(payload: bytes, ethertype: int, *, vlan: int | None = None) -> bytes:
    """A frame from the sender to the receiver; `vlan` is a tag's 16 bits, host order."""
    tags = [] if vlan is None else [(ETHERTYPE_VLAN, vlan)]
    return build.ethernet(_RX_MAC, _TX_MAC, ethertype, payload, tags=tags)


def ipv4(payload: bytes, protocol: int, *, identification: int = 0) -> bytes:
    """An IPv4 packet from the sender to the receiver."""
    return build.ip(_ENDS[4], protocol, payload, identification=identification)


def ipv6(payload: bytes, protocol: int) -> bytes:
    """An IPv6 packet from the sender to the receiver."""
    return build.ip(_ENDS[6], protocol, payload)


def udp(payload: bytes, source: int, destination: int, *, version: int = 4) -> bytes:
    """A UDP datagram, its checksum over the pseudo header of IP `version`."""
    return build.udp((source, destination), payload, ends=_ENDS[version])


def tcp(
    payload: bytes, source: int, destination: int, *, sequence: int, flags: int, version: int = 4
) -> bytes:
    """A TCP segment without options, its checksum over the pseudo header of IP `version`."""
    return build.tcp(
        (source, destination),
        payload,
        sequence=sequence,
        acknowledgement=0,
        flags=flags,
        ends=_ENDS[version],
    )


def arp_request() -> bytes:
    """The sender asks for the receiver's address."""
    (sender, target), nobody = _ENDS[4], bytes(6)
    return build.arp(build.ARP_REQUEST, _TX_MAC, sender, nobody, target)


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
    return build.ethernet(_RX_MAC, _TX_MAC, ETHERTYPE_IPV4, packet, pad=False)


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
