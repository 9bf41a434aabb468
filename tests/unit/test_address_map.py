"""Where addresses go: by prefix, and at random, where no two may become one."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpcap.options.rewrite import parse_rules
from xdpcap.packets.edit.address_map import AddressMap

SEEDS = st.integers(0, (1 << 63) - 1)


def go(addresses: AddressMap, text: str) -> str:
    return str(ip_address(addresses[ip_address(text).packed]))


def by(*pairs: str, seed: int | None = None) -> AddressMap:
    return AddressMap(parse_rules(map_ip=pairs).maps, seed)


# -- prefixes -------------------------------------------------------------------------------------


@given(st.data())
def test_a_prefix_is_replaced_bit_by_bit_and_the_host_keeps_its_bits(data):
    width, kind = data.draw(st.sampled_from([(32, IPv4Address), (128, IPv6Address)]))
    length = data.draw(st.integers(0, width))
    host = (1 << (width - length)) - 1
    numbers = st.integers(0, (1 << width) - 1)
    source, target, address = (data.draw(numbers) for _ in range(3))
    if data.draw(st.booleans()):
        address = source & ~host | address & host
    pair = tuple(ip_network(f"{kind(end & ~host)}/{length}") for end in (source, target))
    wanted = target & ~host | address & host if kind(address) in pair[0] else address
    assert AddressMap([pair])[kind(address).packed] == kind(wanted).packed


def test_the_longest_prefix_that_holds_an_address_is_its_own_in_whatever_order_given():
    pairs = ["0.0.0.0/0:0.0.0.0/0", "10.0.0.0/8:20.0.0.0/8", "10.1.0.0/16:30.1.0.0/16",
             "10.1.2.3/32:9.9.9.9/32"]  # fmt: skip
    for order in (pairs, pairs[::-1]):
        addresses = by(*order)
        assert go(addresses, "10.1.2.3") == "9.9.9.9"
        assert go(addresses, "10.1.2.4") == "30.1.2.4"
        assert go(addresses, "10.2.2.4") == "20.2.2.4"
        assert go(addresses, "11.2.2.4") == "11.2.2.4"


def test_an_address_is_mapped_once_though_its_successor_lies_in_another_prefix():
    addresses = by("10.0.0.0/8:20.0.0.0/8", "20.0.0.0/8:10.0.0.0/8")
    assert go(addresses, "10.1.1.1") == "20.1.1.1"
    assert go(addresses, "20.1.1.1") == "10.1.1.1"


def test_families_do_not_mix():
    addresses = by("0.0.0.0/0:0.0.0.0/0", "::/1:8000::/1")
    assert go(addresses, "1::2") == "8001::2"
    assert go(addresses, "1.0.0.2") == "1.0.0.2"


def test_what_a_prefix_holds_is_not_randomised_and_all_else_is():
    addresses = by("10.0.0.0/8:192.0.0.0/8", "2001:db8::/32:2001:db9::/32", seed=3)
    assert go(addresses, "10.1.2.3") == "192.1.2.3"
    assert go(addresses, "2001:db8::1") == "2001:db9::1"
    assert go(addresses, "11.1.2.3") == go(AddressMap(seed=3), "11.1.2.3") != "11.1.2.3"


# -- at random ------------------------------------------------------------------------------------

STAY = [
    "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "169.254.0.1", "169.254.255.255",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "ff02::1",
    "ff0e::101", "ffff::",
]  # fmt: skip


def is_ordinary(address: IPv4Address | IPv6Address) -> bool:
    """As `ipaddress` sees it, which knows the registries by itself."""
    special = address.is_multicast or address.is_loopback or address.is_unspecified
    if isinstance(address, IPv4Address):
        special = special or address.is_link_local or address in ip_network("0.0.0.0/8")
        special = special or address in ip_network("240.0.0.0/4")
    return not special


@given(SEEDS)
def test_special_addresses_stay(seed):
    addresses = AddressMap(seed=seed)
    assert [go(addresses, text) for text in STAY] == STAY


@given(SEEDS, st.integers(0, (1 << 32) - 1))
def test_an_ordinary_ipv4_address_becomes_an_ordinary_one(seed, number):
    address = IPv4Address(number)
    successor = ip_address(AddressMap(seed=seed)[address.packed])
    if is_ordinary(address):
        assert is_ordinary(successor)
    else:
        assert successor == address


@given(SEEDS, st.integers(0, (1 << 128) - 1) | st.integers(0, 70_000))
def test_an_ordinary_ipv6_address_becomes_an_ordinary_one_of_the_same_scope(seed, number):
    address = IPv6Address(number)
    successor = ip_address(AddressMap(seed=seed)[address.packed])
    assert successor.packed[0] == address.packed[0]
    assert is_ordinary(successor) == is_ordinary(address)
    for kind in ("is_link_local", "is_site_local", "is_multicast", "is_loopback"):
        assert getattr(successor, kind) == getattr(address, kind)
    if not is_ordinary(address):
        assert successor == address


@given(SEEDS, st.integers(0, (1 << 64) - 1))
def test_a_link_local_address_keeps_its_prefix(seed, host):
    address = (0xFE80 << 112 | host).to_bytes(16, "big")
    successor = AddressMap(seed=seed)[address]
    assert successor[:8] == address[:8]


def test_no_two_addresses_become_one():
    addresses = AddressMap(seed=11)
    near = [IPv4Address(0x0A000000 + i).packed for i in range(60_000)]
    draw = random.Random(5)
    far = [IPv4Address(draw.randrange(1 << 32)).packed for _ in range(60_000)]
    wide = [IPv6Address(0x20010DB8 << 96 | i).packed for i in range(60_000)]
    local = [IPv6Address(0xFE80 << 112 | i).packed for i in range(20_000)]
    assert len({addresses[a] for a in near + far}) == len(set(near + far))
    assert len({addresses[a] for a in wide + local}) == len(wide + local)


def test_neighbours_are_scattered_over_all_networks():
    addresses = AddressMap(seed=1)
    firsts = {addresses[IPv4Address(0x0A000000 + i).packed][0] for i in range(20_000)}
    # All of 1 to 223 but 127.
    assert firsts == set(range(1, 224)) - {127}
    seconds = {addresses[IPv6Address(0x20010DB8 << 96 | i).packed][1] for i in range(20_000)}
    assert len(seconds) == 256
    lasts = {addresses[IPv6Address(0x20010DB8 << 96 | i << 64).packed][15] for i in range(20_000)}
    assert len(lasts) == 256


def test_the_same_seed_gives_the_same_addresses_and_another_one_others():
    one, again, other = AddressMap(seed=1), AddressMap(seed=1), AddressMap(seed=2)
    packed = [IPv4Address(0x0A000000 + i).packed for i in range(1000)]
    packed += [IPv6Address(0x20010DB8 << 96 | i).packed for i in range(1000)]
    assert [one[a] for a in packed] == [again[a] for a in packed]
    assert sum(one[a] == other[a] for a in packed) < 5
    assert sum(one[a] == a for a in packed) < 5


def test_successors_do_not_change_from_version_to_version():
    # A seed written down today must do the same tomorrow.
    # (These were reckoned by another implementation, from the module's description.)
    addresses = AddressMap(seed=42)
    assert go(addresses, "10.0.0.1") == "13.160.118.213"
    assert go(addresses, "2001:db8::1") == "206c:631c:8526:2c6a:e5da:b91b:4fa:1c5e"
    assert go(addresses, "fe80::1") == "fe80::6d38:9706:7b06:9a78"


def test_what_is_no_address_or_no_pair_is_refused():
    with pytest.raises(ValueError, match="4 or 16 bytes"):
        AddressMap()[b"12345"]
    with pytest.raises(ValueError, match="one family and length"):
        AddressMap([(ip_network("10.0.0.0/8"), ip_network("10.0.0.0/16"))])
