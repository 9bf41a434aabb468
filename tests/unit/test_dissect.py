"""The line of a packet, whichever link it is from and however much is asked for."""

from __future__ import annotations

import struct

import pytest
from dump_lines import LINES, MACS, eth, line
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
)
from scapy.layers.l2 import (
    LLC,
    STP,
    CookedLinux,
    CookedLinuxV2,
    Dot1Q,
    Dot3,
    Ether,
)
from scapy.layers.sctp import (
    SCTP,
    SCTPChunkCookieAck,
)
from scapy.packet import Packet, Raw
from scapy_packets import A4, A6, B4, B6, TEXT, same, v4, v6

from xdpcap.packets.dissect import dissect

RAW, NULL, LOOP, PPP, HDLC, SLL, SLL2 = 12, 0, 108, 9, 104, 113, 276


@pytest.mark.parametrize("name", LINES)
def test_a_packet_has_its_line(name):
    packet, expected = LINES[name]
    assert line(packet) == expected


def ip_udp() -> Packet:
    return IP(src=A4, dst=B4) / UDP(sport=5, dport=6)


OF_OTHER_LINKS = {
    "raw": (RAW, ip_udp(), ""),
    "raw ipv6": (RAW, IPv6(src=A6, dst=B6) / UDP(sport=5, dport=6), ""),
    "ipv4": (228, ip_udp(), ""),
    "null of this machine": (NULL, Raw(struct.pack("<I", 2)) / ip_udp(), "loopback 0x0002"),
    "null of another": (NULL, Raw(struct.pack(">I", 2)) / ip_udp(), "loopback 0x0002"),
    "loop": (LOOP, Raw(struct.pack(">I", 2)) / ip_udp(), "loopback 0x0002"),
    "ppp": (PPP, Raw(b"\x00\x21") / ip_udp(), "ppp 0x0021"),
    "ppp, compressed": (PPP, Raw(b"\x21") / ip_udp(), "ppp 0x0021"),
    "ppp, framed": (50, Raw(b"\xff\x03\x00\x21") / ip_udp(), "ppp 0x0021"),
    "hdlc": (HDLC, Raw(b"\x0f\x00\x08\x00") / ip_udp(), "chdlc 0x0800"),
    "sll": (
        SLL,
        CookedLinux(pkttype=4, lladdrlen=6, src=b"\2\0\0\0\0\1", proto=0x0800) / ip_udp(),
        "out 02:00:00:00:00:01, ethertype IPv4 (0x0800)",
    ),
    "sll2": (
        SLL2,
        CookedLinuxV2(pkttype=0, lladdrlen=0, ifindex=3, proto=0x0800) / ip_udp(),
        "ifindex 3, in, ethertype IPv4 (0x0800)",
    ),
}


@pytest.mark.parametrize("name", OF_OTHER_LINKS)
def test_ip_is_found_behind_the_header_of_its_link(name):
    linktype, packet, link = OF_OTHER_LINKS[name]
    expected = f"IP {A4}:5 > {B4}:6 UDP length 0"
    if "ipv6" in name:
        expected = f"IP6 [{A6}]:5 > [{B6}]:6 UDP length 0"
    assert line(packet, linktype) == expected
    head = f"{link}, length {len(packet)}: " if link else ""
    assert line(packet, linktype, link=True) == head + expected
    behind = len(packet[IPv6 if "ipv6" in name else IP])
    assert dissect(linktype, bytes(packet), len(packet)).link_bytes == len(packet) - behind


def test_of_a_link_that_is_not_known_the_first_bytes_are_shown():
    shown = line(bytes(range(20)), 127)
    assert shown == "linktype 127 0001 0203 0405 0607 0809 0a0b 0c0d 0e0f, length 20"
    assert line(b"", 127) == "linktype 127, length 0"


@pytest.mark.parametrize(
    ("linktype", "data", "expected"),
    [
        (NULL, struct.pack("<I", 7) + b"abc", "family 7, length 3"),
        (PPP, b"\xc0\x21abc", "protocol 0xc021, length 3"),
        (HDLC, b"\x8f\x00\x80\x35abc", "SLARP, length 3"),
        (RAW, b"\x12abc", "IP invalid (version 1)"),
    ],
)
def test_what_another_link_carries_beside_ip_is_plain(linktype, data, expected):
    assert line(data, linktype) == expected


def test_the_link_header_stands_before_the_line_when_asked():
    packet = eth() / Dot1Q(vlan=3) / v4(same) / UDP(sport=5, dport=6)
    assert line(packet, link=True) == (
        f"{MACS['src']} > {MACS['dst']}, ethertype 802.1Q (0x8100), length 46: "
        f"VLAN 3 IP {A4}:5 > {B4}:6 UDP length 0"
    )
    assert line(Ether(**MACS, type=0x88CC) / TEXT, link=True) == (
        f"{MACS['src']} > {MACS['dst']}, ethertype LLDP (0x88cc), length 49: "
        "LLDP (0x88cc), length 35"
    )
    assert line(Dot3(**MACS) / LLC() / STP(), link=True).startswith(
        f"{MACS['src']} > {MACS['dst']}, 802.3, length 52: STP"
    )


def test_quiet_lines_say_less_and_verbose_ones_more():
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 2)), ("NOP", None), ("WScale", 7)]
    packet = (
        eth()
        / v4(same, ttl=9, id=5, flags="DF", tos=8)
        / TCP(sport=1, dport=2, seq=3, window=77, options=options)
    )
    assert line(packet, quiet=True) == f"IP {A4}:1 > {B4}:2 TCP length 0"
    assert line(packet, verbose=True) == (
        f"IP (tos 0x08, ttl 9, id 5, DF) {A4}:1 > {B4}:2 TCP [S] seq 3, win 77, "
        "options [mss 1460,sackOK,TS val 1 ecr 2,nop,wscale 7], length 0"
    )
    packet = eth() / v6(same, tc=0x28, fl=0x12345, hlim=3) / SCTP(sport=1, dport=2)
    packet /= SCTPChunkCookieAck()
    assert line(packet, quiet=True) == f"IP6 [{A6}]:1 > [{B6}]:2 SCTP length 4"
    assert line(packet, verbose=True).startswith("IP6 (class 0x28, flow 0x12345, hlim 3) ")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (b"\x01\x00\x00\x00", "nop,eol,eol,eol"),
        (b"\x02\x04\x05", "bad"),
        (b"\x02", "bad"),
        (b"\x02\x00\x00\x00", "bad"),
        (b"\x05\x0a\x00\x00\x00\x01\x00\x00\x00\x02\x01\x01", "sack {1:2},nop,nop"),
        (b"\x1e\x04\xab\xcd", "unknown-30 0xabcd"),
        (b"\x02\x03\x05\x00", "unknown-2 0x05,eol"),
    ],
)
def test_options_of_tcp_are_written_as_far_as_they_go(options, expected):
    header = struct.pack("!HHIIBBHHH", 1, 2, 3, 4, 5 + (len(options) + 3) // 4 << 4, 2, 9, 0, 0)
    # Options that end before their header does are those of a packet that was cut.
    padding = bytes(-len(options) % 4)
    packet = bytes(eth() / v4(same, proto=6) / Raw(header + options + padding))
    shown = line(packet[: len(packet) - len(padding)], verbose=True, origlen=len(packet))
    assert f"options [{expected}]" in shown
    assert shown.endswith(" [|tcp]") == bool(padding)
