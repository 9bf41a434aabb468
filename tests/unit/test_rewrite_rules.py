"""What a rewriter can be asked for, and how it says that it can't be done."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from xdpcap.errors import UsageError
from xdpcap.options.addresses import VlanEdit
from xdpcap.options.rewrite import RewriteRules, parse_rules
from xdpcap.packets.edit.rewrite import Rewriter


def test_nothing_asked_for_is_nothing_to_do():
    assert parse_rules() == RewriteRules(None, None, None, (), None)


def test_every_option_is_taken_apart():
    rules = parse_rules(
        dst_mac="02:00:00:00:00:01",
        src_mac=b"\2\0\0\0\0\2",
        vlan="add:7",
        map_ip=("10.0.0.0/8:20.0.0.0/8", "[2001:db8::]/32:[2a00::]/32", "10.1.0.0/16:1.1.0.0/16"),
        seed=0,
    )
    assert rules == RewriteRules(
        b"\2\0\0\0\0\1",
        b"\2\0\0\0\0\2",
        VlanEdit("add", 7),
        (
            (ip_network("2001:db8::/32"), ip_network("2a00::/32")),
            (ip_network("10.1.0.0/16"), ip_network("1.1.0.0/16")),
            (ip_network("10.0.0.0/8"), ip_network("20.0.0.0/8")),
        ),
        0,
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dst_mac": "02:00:00:00:00"}, "--dst-mac: '02:00:00:00:00' is not a MAC address"),
        ({"src_mac": "02:00:00:00:00:0g"}, "--src-mac: '02:00:00:00:00:0g' is not a MAC"),
        ({"dst_mac": b"12345"}, "--dst-mac: 5 bytes; a MAC address has 6"),
        ({"vlan": "add:4095"}, "--vlan: 'add:4095': a VLAN ID is at most 4094; for example"),
        ({"vlan": "-1"}, "--vlan: '-1' is not a VLAN edit, use add:ID, del or ID; for example"),
        ({"vlan": "add:"}, "--vlan: 'add:' is not a VLAN edit"),
        ({"vlan": "del:5"}, "--vlan: 'del:5' is not a VLAN edit"),
        (
            {"map_ip": ("10.0.0.0/8:10.1.0.0/16",)},
            "--map-ip 10.0.0.0/8:10.1.0.0/16: prefixes of /8 and /16; give both one length",
        ),
        ({"map_ip": ("10.0.0.0/8:2001:db8::/32",)}, "both IPv4 or both IPv6; for example"),
        ({"map_ip": ("10.0.0.1/8:20.0.0.0/8",)}, "is not a pair of prefixes"),
        ({"map_ip": ("10.0.0.0/8",)}, "is not a pair of prefixes"),
        (
            {"map_ip": ("10.0.0.0/8:1.0.0.0/8", "10.0.0.0/8:2.0.0.0/8")},
            "--map-ip: 10.0.0.0/8 is mapped twice; map each prefix once",
        ),
        ({"seed": -1}, "--seed -1: must be from 0 to"),
        ({"seed": 1 << 63}, "choose another number"),
    ],
)
def test_what_can_not_be_done_is_one_line_that_names_the_option(options, said):
    for make in (parse_rules, Rewriter):
        with pytest.raises(UsageError) as caught:
            make(**options)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "; " in str(caught.value)


@pytest.mark.parametrize("vlan", ["0", "4094", "add:0", "add:4094", "del"])
def test_every_vlan_id_from_0_to_4094_is_taken(vlan):
    assert parse_rules(vlan=vlan).vlan is not None
