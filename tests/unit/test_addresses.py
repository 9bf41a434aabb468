"""options.addresses: what people write is read exactly, anything else is an error of one line."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpcap.options.addresses import (
    VlanEdit,
    format_mac,
    parse_mac,
    parse_prefix,
    parse_prefix_list,
    parse_prefix_map,
    parse_vlan,
)
from xdpcap.options.units import UnitError


@pytest.mark.parametrize(
    "text",
    ["02:aB:00:00:00:01", "02-AB-00-00-00-01", "02ab00000001", "02ab.0000.0001", " 02ab00000001 "],
)
def test_a_mac_address_is_read_in_every_usual_spelling(text: str) -> None:
    assert parse_mac(text) == b"\x02\xab\0\0\0\1"


@pytest.mark.parametrize(
    "text",
    [
        *("", "02:ab", "02:ab:00:00:00", "02:ab:00:00:00:01:02", "02:ab-00:00:00:01"),
        *("0g:00:00:00:00:01", "02ab:0000:0001", "02:ab:00:00:00:1"),
    ],
)
def test_what_is_no_mac_address_is_refused(text: str) -> None:
    with pytest.raises(UnitError, match="MAC address"):
        parse_mac(text)


@given(st.binary(min_size=6, max_size=6))
def test_a_mac_address_survives_being_written(mac: bytes) -> None:
    assert parse_mac(format_mac(mac)) == mac


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("[2001:db8::]/32", "2001:db8::/32"),
        ("[::1]", "::1/128"),
    ],
)
def test_a_prefix_or_an_address_is_a_network(text: str, network: str) -> None:
    assert parse_prefix(text) == ip_network(network)


def test_bits_beyond_the_prefix_are_refused_with_the_prefix_that_was_meant() -> None:
    with pytest.raises(UnitError, match=r"write 10\.0\.0\.0/8"):
        parse_prefix("10.1.2.3/8")


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "10.0.0", "x", "[10.0.0.0/8]", "::/129", "/8"])
def test_what_is_no_prefix_is_refused(text: str) -> None:
    with pytest.raises(UnitError, match="is not a prefix"):
        parse_prefix(text)


def test_a_list_of_prefixes_may_have_both_families() -> None:
    assert parse_prefix_list("10.0.0.0/8, ::/0") == (ip_network("10.0.0.0/8"), ip_network("::/0"))
    with pytest.raises(UnitError):
        parse_prefix_list("10.0.0.0/8,")


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("10.1.0.0/16:192.168.0.0/16", ("10.1.0.0/16", "192.168.0.0/16")),
        ("10.0.0.1:10.0.0.2", ("10.0.0.1/32", "10.0.0.2/32")),
        ("2001:db8::/32:fd00::/32", ("2001:db8::/32", "fd00::/32")),
        ("[2001:db8::]/32:[fd00::]/32", ("2001:db8::/32", "fd00::/32")),
        ("[::1]:[::2]", ("::1/128", "::2/128")),
        ("::/0:fc00::/7", ("::/0", "fc00::/7")),
    ],
)
def test_a_map_is_cut_where_both_sides_are_prefixes(text: str, pair: tuple[str, str]) -> None:
    assert parse_prefix_map(text) == tuple(map(ip_network, pair))


def test_colons_that_can_be_read_in_several_ways_are_not_guessed() -> None:
    # 1::2 and 3:4::5, or 1::2:3 and 4::5.
    with pytest.raises(UnitError, match="put addresses in brackets"):
        parse_prefix_map("1::2:3:4::5")
    assert parse_prefix_map("[1::2]:[3:4::5]")[1] == ip_network("3:4::5")


@pytest.mark.parametrize("text", ["10.0.0.0/8:::/0", "10.0.0.0/8:10.0.0.1/8", ":", "10.0.0.0/8"])
def test_what_is_no_pair_of_one_family_is_refused(text: str) -> None:
    with pytest.raises(UnitError, match="not a pair of prefixes"):
        parse_prefix_map(text)


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        ("add:100", VlanEdit("add", 100)),
        ("del", VlanEdit("del", None)),
        ("0", VlanEdit("set", 0)),
        ("4094", VlanEdit("set", 4094)),
    ],
)
def test_a_vlan_edit_says_what_and_which(text: str, edit: VlanEdit) -> None:
    assert parse_vlan(text) == edit


@given(st.text(max_size=40))
def test_any_other_text_is_one_line_of_error(text: str) -> None:
    for parse in (parse_mac, parse_prefix, parse_prefix_list, parse_prefix_map, parse_vlan):
        try:
            parse(text)
        except UnitError as error:
            assert "\n" not in str(error)
