"""Fields, hex and times of a packet."""

from __future__ import annotations

import time

import pytest
from dump_lines import ETHERNET, LINES, MACS, eth
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP
from scapy.layers.l2 import (
    Dot1Q,
)
from scapy_packets import A4, B4, TEXT, same, v4

from xdpcap.options.dump import TIME_STYLES
from xdpcap.packets.dissect import dissect
from xdpcap.packets.dissect.fields import layer_fields
from xdpcap.packets.dissect.hexdump import hex_lines
from xdpcap.packets.dissect.layers import Cut, Invalid, Payload
from xdpcap.packets.dissect.times import STYLES, Clock, utc_text

# --------------------------------------------------------------------- fields, hex and times


def test_fields_have_the_names_that_the_manual_gives_them():
    packet = eth() / Dot1Q(vlan=100, prio=5) / v4(same, id=1, flags="DF") / TCP(
        sport=1, dport=80, seq=7, options=[("MSS", 1460)]
    ) / TEXT  # fmt: skip
    data = bytes(packet)
    assert [layer_fields(layer) for layer in dissect(ETHERNET, data, len(data)).layers] == [
        {
            "protocol": "ethernet",
            "source": MACS["src"],
            "destination": MACS["dst"],
            "type": 0x8100,
            "length": len(data) - 14,
        },
        {
            "protocol": "vlan",
            "tpid": 0x8100,
            "id": 100,
            "priority": 5,
            "drop_eligible": False,
            "type": 0x0800,
        },
        {
            "protocol": "ip",
            "version": 4,
            "source": A4,
            "destination": B4,
            "next": 6,
            "ttl": 64,
            "traffic_class": 0,
            "id": 1,
            "dont_fragment": True,
            "more_fragments": False,
            "fragment_offset": 0,
            "flow_label": None,
            "length": 59,
        },
        {
            "protocol": "tcp",
            "source_port": 1,
            "destination_port": 80,
            "seq": 7,
            "ack": 0,
            "flags": "S",
            "window": 8192,
            "options": ["mss 1460"],
            "length": 35,
        },
    ]


def test_what_is_cut_invalid_or_unknown_is_a_layer_of_its_own():
    def last(data: bytes):
        return dissect(ETHERNET, data, 100).layers[-1]

    whole = bytes(LINES["tcp"][0])
    assert last(whole[:40]) == Cut("tcp")
    assert last(bytes(LINES["wrong version"][0])) == Invalid("IP", "version 6")
    assert last(bytes(LINES["another ethertype"][0])) == Payload("LLDP (0x88cc)", 86)


def test_hex_is_laid_out_as_tcpdump_does_it():
    data = bytes(range(32, 32 + 19))
    assert list(hex_lines(data)) == [
        "\t0x0000:  2021 2223 2425 2627 2829 2a2b 2c2d 2e2f",
        "\t0x0010:  3031 32",
    ]
    assert list(hex_lines(data, ascii_too=True)) == [
        "\t0x0000:  2021 2223 2425 2627 2829 2a2b 2c2d 2e2f  .!\"#$%&'()*+,-./",
        "\t0x0010:  3031 32                                  012",
    ]
    assert list(hex_lines(b"")) == []


@pytest.mark.parametrize(
    ("style", "digits", "expected"),
    [
        ("absolute", 6, ["21:13:20.000000 ", "21:13:21.500000 ", "21:13:19.999999 "]),
        ("date", 9, ["2023-11-14 21:13:20.000000001 ", "2023-11-14 21:13:21.500000000 ",
                     "2023-11-14 21:13:19.999999999 "]),
        ("epoch", 6, ["1700000000.000000 ", "1700000001.500000 ", "1699999999.999999 "]),
        ("delta", 9, [" 00:00:00.000000000 ", " 00:00:01.499999999 ", "-00:00:01.500000001 "]),
        ("relative", 9, [" 00:00:00.000000000 ", " 00:00:01.499999999 ", "-00:00:00.000000002 "]),
        ("none", 6, ["", "", ""]),
    ],
)  # fmt: skip
def test_times_are_told_in_each_style(style, digits, expected, monkeypatch):
    monkeypatch.setenv("TZ", "Atlantic/Azores")
    time.tzset()
    try:
        clock = Clock(style, digits)
        times = [1_700_000_000_000_000_001, 1_700_000_001_500_000_000, 1_699_999_999_999_999_999]
        assert [clock.text(ts_ns) for ts_ns in times] == expected
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.integers(0, (1 << 64) - 1), st.sampled_from(STYLES))
def test_any_time_can_be_told(ts_ns, style):
    assert Clock(style).text(ts_ns).isprintable()
    assert utc_text(ts_ns).isprintable()


def test_a_time_in_utc_has_nine_digits_and_sorts():
    assert utc_text(1_700_000_000_000_000_001) == "2023-11-14T22:13:20.000000001Z"
    assert set(STYLES) == set(TIME_STYLES)
