"""Headers that packets.build makes, read back by scapy and held against its checksums."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from xdpcap.packets import build

MACS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
ENDS = {
    4: (ip_address("192.0.2.2").packed, ip_address("198.51.100.9").packed),
    6: (ip_address("2001:db8::2").packed, ip_address("2001:db8:1::9").packed),
}


def rebuilt(frame: bytes) -> bytes:
    """The frame with every checksum and length computed anew by scapy."""
    packet = Ether(frame)
    for layer, fields in ((IP, ("chksum", "len")), (TCP, ("chksum",)), (UDP, ("chksum", "len"))):
        if layer in packet:
            for field in fields:
                delattr(packet[layer], field)
    return bytes(packet)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [0, 1, 2, 99, 1400])
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_lengths_and_checksums_are_those_that_scapy_computes(version, size, kind):
    ends, payload = ENDS[version], bytes(range(256)) * 6
    if kind == "udp":
        segment = build.udp((49152, 9), payload[:size], ends=ends)
        packet = build.ip(ends, build.PROTOCOL_UDP, segment, identification=7)
    else:
        segment = build.tcp((49152, 9), payload[:size], sequence=5, flags=0x18, ends=ends)
        packet = build.ip(ends, build.PROTOCOL_TCP, segment, identification=7)
    frame = build.ethernet(*MACS, build.ethertype_of(ends[0]), packet, pad=False)
    assert frame == rebuilt(frame)
    assert (IP if version == 4 else IPv6) in Ether(frame)


def test_tags_stand_in_order_behind_the_addresses():
    frame = build.ethernet(*MACS, 0x0800, b"", tags=[(0x88A8, 100), (0x8100, 0x2005)])
    assert frame[12:22].hex(" ", 2) == "88a8 0064 8100 2005 0800"
    assert Ether(build.ethernet(*MACS, 0x0800, b"", tags=[(0x8100, 5)]))[Dot1Q].vlan == 5


@pytest.mark.parametrize(("pad", "length"), [(True, 60), (False, 17)])
def test_a_short_frame_is_padded_where_that_is_asked(pad, length):
    assert len(build.ethernet(*MACS, 0x1234, b"abc", pad=pad)) == length


def test_an_arp_request_asks_for_an_address():
    ends = ENDS[4]
    body = build.arp(build.ARP_REQUEST, MACS[1], ends[0], bytes(6), ends[1])
    packet = Ether(build.ethernet(b"\xff" * 6, MACS[1], build.ETHERTYPE_ARP, body))[ARP]
    assert (packet.op, packet.psrc, packet.pdst) == (1, "192.0.2.2", "198.51.100.9")


def test_a_udp_checksum_of_zero_is_written_as_all_ones():
    found = set()
    for number in range(65536):
        datagram = build.udp((1, 2), number.to_bytes(2, "big"), ends=ENDS[4])
        found.add(datagram[6:8])
        if datagram[6:8] == b"\xff\xff":
            break
    assert b"\xff\xff" in found and b"\0\0" not in found
