"""Dissecting what is cut, broken or made to hurt."""

from __future__ import annotations

import json

import pytest
from dump_lines import ETHERNET, LINES, MACS, eth, line
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.packet import Raw
from scapy_packets import A4, B4, PACKETS, TAGS, same, v4, v6

from xdpcap.packets.dissect import dissect
from xdpcap.packets.dissect.fields import layer_fields
from xdpcap.packets.dissect.layers import Cut
from xdpcap.packets.dissect.text import Style, packet_text

# Raw IP, BSD loopback, PPP, HDLC, cooked, and one that is not known.
LINKTYPES = (ETHERNET, 12, 228, 229, 0, 108, 9, 50, 104, 113, 276, 127)
STYLE_CHOICES = [
    Style(),
    Style(link=True),
    Style(quiet=True),
    Style(verbose=True),
    Style(link=True, verbose=True),
]


# ---------------------------------------------------------------------------- truncation

EVERY = {
    **{f"line: {name}": bytes(packet) for name, (packet, _) in LINES.items()},
    **{
        f"crafted: {name}": bytes(TAGS["tagged"]() / build(same)) for name, build in PACKETS.items()
    },
}


@pytest.mark.parametrize("name", EVERY)
def test_a_packet_cut_anywhere_has_a_line_in_every_style(name):
    whole = EVERY[name]
    for caplen in range(len(whole) + 1):
        packet = dissect(ETHERNET, whole[:caplen], len(whole))
        assert packet.link_bytes <= caplen
        for style in STYLE_CHOICES:
            shown = packet_text(packet, len(whole), style)
            assert shown
            assert shown.isprintable()
        json.dumps([layer_fields(layer) for layer in packet.layers])


@pytest.mark.parametrize(
    ("name", "caplen", "expected"),
    [
        ("tcp", 13, "[|ether]"),
        ("tcp", 33, f"Ethernet {MACS['src']} > {MACS['dst']} [|ip]"),
        ("tcp", 34, f"IP {A4} > {B4} [|tcp]"),
        ("tcp", 53, f"IP {A4} > {B4} [|tcp]"),
        ("tcp", 54, f"IP {A4}:1 > {B4}:80 TCP [P.] seq 7, ack 9, length 35"),
        ("tcp6", 53, f"Ethernet {MACS['src']} > {MACS['dst']} [|ip6]"),
        ("udp", 41, f"IP {A4} > {B4} [|udp]"),
        ("icmp", 41, f"IP {A4} > {B4} [|icmp]"),
        ("neighbor solicitation", 70, None),
        ("sctp", 45, f"IP {A4} > {B4} [|sctp]"),
        ("sctp", 48, f"IP {A4}:1 > {B4}:2 SCTP length 20 [|sctp]"),
        ("sctp", 50, f"IP {A4}:1 > {B4}:2 SCTP DATA, length 20"),
        ("arp request", 30, f"Ethernet {MACS['src']} > {MACS['dst']} [|arp]"),
        ("vlan", 16, f"Ethernet {MACS['src']} > {MACS['dst']} [|vlan]"),
        ("mpls", 16, f"Ethernet {MACS['src']} > {MACS['dst']} [|mpls]"),
        ("mpls", 20, "MPLS 16 [|mpls]"),
        ("gre", 36, f"IP {A4} > {B4} [|gre]"),
        ("vxlan", 48, f"IP {A4}:5 > {B4}:4789 UDP length 82 [|vxlan]"),
        ("vxlan", 60, f"IP {A4}:5 > {B4}:4789 UDP VXLAN 42 [|ether]"),
    ],
)
def test_a_header_that_is_not_all_there_is_named(name, caplen, expected):
    whole = bytes(LINES[name][0])
    shown = line(whole[:caplen], origlen=len(whole))
    if expected is None:
        assert shown.endswith("ICMPv6 neighbor solicitation, length 24 [|icmp6]")
    else:
        assert shown == expected


def test_no_whole_packet_is_called_cut():
    # One has no transport header, the other one's AH says neither its length nor what follows.
    broken = {"crafted: no payload", "crafted: authenticated"}
    for name in EVERY.keys() - broken:
        data = EVERY[name]
        layers = dissect(ETHERNET, data, len(data)).layers
        assert not any(isinstance(layer, Cut) for layer in layers), name


# ------------------------------------------------------------------------ whatever the bytes


def check_any(linktype: int, data: bytes, origlen: int) -> None:
    packet = dissect(linktype, data, origlen)
    assert 0 < len(packet.layers) < 50
    assert 0 <= packet.link_bytes <= len(data)
    for style in STYLE_CHOICES:
        shown = packet_text(packet, origlen, style)
        assert shown
        assert shown.isprintable()
        assert len(shown) < 5000
    for layer in packet.layers:
        fields = layer_fields(layer)
        assert json.loads(json.dumps(fields))["protocol"] == layer.protocol
        assert fields.get("length", 0) >= 0


@settings(max_examples=400)
@given(st.sampled_from(LINKTYPES), st.binary(max_size=200), st.integers(0, 1 << 17))
def test_any_bytes_of_any_link_have_a_line(linktype, data, more):
    check_any(linktype, data, len(data) + more)


@settings(max_examples=600)
@given(st.data())
def test_a_real_packet_with_any_bytes_changed_has_a_line(draw):
    data = bytearray(EVERY[draw.draw(st.sampled_from(sorted(EVERY)))])
    for _ in range(draw.draw(st.integers(1, 8))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    kept = data[: draw.draw(st.integers(0, len(data)))]
    check_any(ETHERNET, bytes(kept), len(data))


@pytest.mark.parametrize(
    ("head", "unit"),
    [
        (bytes(12), b"\x81\x00\x00\x01"),  # tags without end
        (bytes(12) + b"\x88\x47", bytes(4)),  # labels without a last one
        (bytes(12) + b"\x86\xdd\x60" + bytes(3) + b"\xff\xff\x00\x01" + bytes(32), bytes(8)),
        (bytes(12) + b"\x08\x00\x45\0\xff\xff" + bytes(5) + b"\x84" + bytes(22), b"\0\0\0\4"),
    ],
)
def test_headers_without_end_end_somewhere(head, unit):
    data = head + unit * 10_000
    assert len(dissect(ETHERNET, data, len(data)).layers) < 50
    check_any(ETHERNET, data, len(data))


def test_padding_of_a_short_frame_is_no_payload():
    packet = bytes(eth() / v4(same) / TCP(sport=1, dport=2, seq=3)).ljust(60, b"\xee")
    assert line(packet).endswith("length 0")


def test_a_length_of_zero_is_that_of_an_offload_and_means_all():
    packet = eth() / v4(same, len=0) / UDP(sport=5, dport=6, len=0) / Raw(bytes(1000))
    assert line(packet) == f"IP {A4}:5 > {B4}:6 UDP length 1000"
    packet = eth() / v6(same, plen=0) / TCP(sport=5, dport=6, seq=1) / Raw(bytes(1000))
    assert line(packet).endswith("length 1000")
