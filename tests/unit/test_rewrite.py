"""Edits of packets, against the same packets as scapy builds them with the new values.

A packet is built twice: with the addresses as they are, and with those that they become.
The first, edited, must be the second, byte for byte: addresses, checksums and all else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    fragment6,
)  # fmt: skip
from scapy.layers.l2 import ARP, LLC, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw
from scapy_packets import A4, A6, B4, C4, C6, D4, ERRORS, LOCAL, PACKETS, TAGS, TEXT, same, v4, v6

from xdpcap.packets.edit.address_map import AddressMap
from xdpcap.packets.edit.rewrite import Rewriter
from xdpcap.packets.flow import hash_of
from xdpcap.packets.packet_set import PacketSet

SEED = 20
MAPS = ("10.0.0.0/8:198.0.0.0/8", "2001:db8::/32:2a00:1234::/32")


def moved(address: str) -> str:
    """Where MAPS put an address, reckoned by hand."""
    if address.startswith("10."):
        return "198." + address.removeprefix("10.")
    return address.replace("2001:db8:", "2a00:1234:")


def randomised(address: str) -> str:
    packed = ipaddress.ip_address(address).packed
    return str(ipaddress.ip_address(AddressMap(seed=SEED)[packed]))


WAYS: dict[str, tuple[Callable[[str], str], dict]] = {
    "mapped": (moved, {"map_ip": MAPS}),
    "randomised": (randomised, {"seed": SEED}),
}


def edited(*frames: bytes, **rules) -> list[bytes]:
    """The frames after an edit; number, time and hash are checked on the way."""
    packets = PacketSet()
    for index, frame in enumerate(frames):
        packets.append(frame, ts_ns=1000 + index, number=7 + index)
    Rewriter(**rules).apply(packets)
    for index, (ts_ns, data, number, flow) in enumerate(packets):
        assert (ts_ns, number, flow) == (1000 + index, 7 + index, hash_of(data))
    return [packet[1] for packet in packets]


def framed(packet: Packet, tags: str = "untagged") -> bytes:
    return bytes(TAGS[tags]() / packet)


# -- addresses and checksums ----------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("name", PACKETS)
def test_an_edited_packet_is_what_scapy_builds_with_the_new_addresses(name, tags, way):
    to, rules = WAYS[way]
    before, wanted = (framed(PACKETS[name](how), tags) for how in (same, to))
    assert before != wanted
    assert edited(before, **rules) == [wanted]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("quoted", PACKETS)
@pytest.mark.parametrize("error", ERRORS)
def test_the_packet_that_an_icmp_error_quotes_is_edited_with_it(error, quoted, way):
    to, rules = WAYS[way]
    if ERRORS[error](same).version != PACKETS[quoted](same).version:
        return
    # The least that RFC 792 and 4443 let an error quote; the others have addresses beyond.
    least = {"tcp": 28, "udp": 28, "tcp6": 48, "udp6": 48}.get(quoted, 200)
    for cut in (least, 200):
        before, wanted = (
            framed(ERRORS[error](how) / Raw(bytes(PACKETS[quoted](how))[:cut]))
            for how in (same, to)
        )
        assert edited(before, **rules) == [wanted]


def test_an_error_that_quotes_an_error_that_quotes_one_ends_somewhere_and_stays_right():
    def nest(to, depth):
        inner = bytes(nest(to, depth - 1)) if depth else bytes(v4(to) / UDP() / b"x")
        return v4(to) / ICMP(type=3, code=1) / Raw(inner)

    for depth in (1, 2):
        assert edited(framed(nest(same, depth)), map_ip=MAPS) == [framed(nest(moved, depth))]
    deep = edited(framed(nest(same, 60)), map_ip=MAPS)[0]
    assert moved(A4) == Ether(deep)[IP].src
    rebuilt = Ether(deep)
    del rebuilt[IP].chksum, rebuilt[ICMP].chksum
    assert bytes(rebuilt)[:38] == deep[:38]


@pytest.mark.parametrize("way", WAYS)
def test_every_fragment_is_edited_and_the_first_ones_checksum_is_right_for_the_whole(way):
    to, rules = WAYS[way]
    data = Raw(bytes(range(256)) * 8)
    for layer in (UDP(sport=1, dport=2), TCP(), ICMP()):
        before, wanted = (
            [framed(piece) for piece in fragment(IP(bytes(v4(how) / layer / data)), 600)]
            for how in (same, to)
        )
        assert len(before) >= 4
        assert edited(*before, **rules) == wanted


@pytest.mark.parametrize("way", WAYS)
def test_every_ipv6_fragment_is_edited_and_the_first_ones_checksum_is_right(way):
    to, rules = WAYS[way]
    data = Raw(bytes(range(256)) * 8)
    for layer in (UDP(sport=1, dport=2), TCP(), ICMPv6EchoRequest()):
        before, wanted = (
            [
                framed(piece)
                for piece in fragment6(
                    v6(how) / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(id=5) / layer / data, 700
                )
            ]
            for how in (same, to)
        )
        assert len(before) >= 3
        assert edited(*before, **rules) == wanted


def test_a_first_fragment_without_its_checksum_is_padded_by_the_frame_and_the_padding_stays():
    before, wanted = (
        framed(v4(how, proto=6, flags="MF") / Raw(bytes(range(8)))) + b"padding of the frame"
        for how in (same, moved)
    )
    assert edited(before, map_ip=MAPS) == [wanted]


@pytest.mark.parametrize(
    # Bytes of the network header, and where the checksum stands after it.
    ("name", "header", "checksum"),
    [
        ("tcp", 20, 16),
        ("udp", 20, 6),
        ("tcp6", 40, 16),
        ("udp6", 40, 6),
        ("icmpv6 echo", 40, 2),
        ("loose route", 32, 16),
        ("hop by hop and destination options", 56, 16),
    ],
)
def test_a_packet_cut_anywhere_is_the_start_of_the_edited_whole(name, header, checksum):
    before, wanted = (framed(PACKETS[name](how), "tagged") for how in (same, moved))
    addresses = 18 + min(header, 40)  # a cut in front of their end leaves them
    # Half a checksum can't be kept right, nor one over options that are missing.
    unsure = {18 + header + checksum + 1} | set(range(38, 50) if header == 32 else ())
    cuts = [cut for cut in range(len(before)) if cut not in unsure]
    got = edited(*(before[:cut] for cut in cuts), map_ip=MAPS)
    assert got == [(wanted if cut >= addresses else before)[:cut] for cut in cuts]


@pytest.mark.parametrize("name", PACKETS)
def test_a_wrong_checksum_stays_as_wrong_as_it_was(name):
    if name.startswith(("udp without", "udp6 without")):
        return
    sums = []
    for build in (same, moved):
        frame = bytearray(framed(PACKETS[name](build)))
        frame[-1] ^= 0x5A  # after the checksum was reckoned
        sums.append(bytes(frame))
    assert edited(sums[0], map_ip=MAPS) == [sums[1]]


@pytest.mark.parametrize(("layer", "address"), [(v4, moved), (v6, moved)])
def test_a_udp_checksum_that_comes_out_as_zero_is_sent_as_all_ones(layer, address):
    bare = layer(address) / UDP(sport=9, dport=9) / Raw(b"\0\0")
    missing = type(bare)(bytes(bare))[UDP].chksum
    data = Raw(missing.to_bytes(2, "big"))
    before, wanted = (framed(layer(how) / UDP(sport=9, dport=9) / data) for how in (same, moved))
    assert wanted[-4:-2] == b"\xff\xff"
    assert edited(before, map_ip=MAPS) == [wanted]
    back = tuple(":".join(reversed(split(pair))) for pair in MAPS)
    assert edited(wanted, map_ip=back) == [before]


def split(pair: str) -> list[str]:
    middle = pair.index(":", pair.index("/"))
    return [pair[:middle], pair[middle + 1 :]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("operation", [1, 2, 3, 8])
def test_arp_is_edited_in_both_of_its_addresses(operation, way):
    to, rules = WAYS[way]
    before, wanted = (
        framed(ARP(op=operation, psrc=how(A4), pdst=how(C4), hwsrc="02:00:00:00:00:09"), "double")
        for how in (same, to)
    )
    assert edited(before, **rules) == [wanted]
    probe = framed(ARP(psrc="0.0.0.0", pdst=to(A4)))
    assert edited(framed(ARP(psrc="0.0.0.0", pdst=A4)), **rules) == [probe]


def test_arp_for_another_protocol_or_of_another_size_stays():
    frames = [
        framed(ARP(ptype=0x86DD, psrc=A4, pdst=C4)),
        framed(Raw(bytes(ARP(psrc=A4, pdst=C4)))),
        framed(ARP(plen=16, psrc=A6, pdst=C6)),
    ]
    assert edited(*frames, seed=1) == frames


def test_both_directions_and_arp_and_errors_see_one_address_the_same():
    one, other = randomised(A4), randomised(B4)
    frames = edited(
        framed(v4(same) / TCP(sport=20, dport=80)),
        framed(v4(same, B4, A4) / TCP(sport=80, dport=20)),
        framed(ARP(psrc=A4, pdst=B4)),
        framed(v4(same, D4, A4) / ICMP(type=3) / v4(same) / UDP()),
        seed=SEED,
    )
    there, back, arp, error = map(Ether, frames)
    assert (there[IP].src, there[IP].dst) == (one, other)
    assert (back[IP].src, back[IP].dst) == (other, one)
    assert (arp[ARP].psrc, arp[ARP].pdst) == (one, other)
    assert error[IP].dst == one
    assert hash_of(frames[0]) == hash_of(frames[1]) != hash_of(framed(v4(same) / TCP()))


def test_multicast_broadcast_and_unspecified_addresses_stay_when_randomised():
    for target in ("224.0.0.251", "239.1.2.3", "255.255.255.255", "127.0.0.1", "0.0.0.0"):
        frame = edited(framed(v4(same, A4, target) / UDP() / TEXT), seed=SEED)[0]
        assert frame == framed(v4(same, randomised(A4), target) / UDP() / TEXT)
    for target in ("ff02::fb", "ff0e::1", "::1", "::"):
        frame = edited(framed(v6(same, LOCAL, target) / UDP() / TEXT), seed=SEED)[0]
        assert frame == framed(v6(same, randomised(LOCAL), target) / UDP() / TEXT)


def test_what_is_not_ip_keeps_every_byte():
    frames = [
        bytes(Dot3(src="02:00:00:00:00:01", dst="01:80:c2:00:00:00") / LLC() / STP()),
        framed(Raw(b"\x88\xcc" + bytes(60))),
        framed(IPv6(bytes(v6(same) / TCP()))).replace(b"\x86\xdd", b"\x08\x00"),
        bytes(13),
        b"",
    ]
    assert edited(*frames, seed=1, map_ip=MAPS) == frames


# -- MAC addresses and tags ------------------------------------------------------------------------


def test_mac_addresses_are_set_as_bytes_or_as_text_and_nothing_else_changes():
    frame = framed(PACKETS["tcp"](same), "double")
    for mac in (b"\x02\xaa\xbb\xcc\xdd\xee", "02:aa:bb:cc:dd:ee"):
        new = bytes.fromhex("02aabbccddee")
        assert edited(frame, dst_mac=mac) == [new + frame[6:]]
        assert edited(frame, src_mac=mac) == [frame[:6] + new + frame[12:]]
        assert edited(frame, dst_mac=mac, src_mac=mac) == [new + new + frame[12:]]


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("name", PACKETS)
def test_a_tag_is_added_in_front_of_those_that_are_there(name, tags):
    frame = TAGS[tags]() / PACKETS[name](same)
    tagged = Ether(src=frame.src, dst=frame.dst) / Dot1Q(vlan=4094, prio=0) / frame.payload
    assert edited(bytes(frame), vlan="add:4094") == [bytes(tagged)]
    # ... and taken away again.
    assert edited(*edited(bytes(frame), vlan="add:0"), vlan="del") == [bytes(frame)]


def test_the_outermost_tag_is_removed_or_renumbered_and_what_has_none_stays():
    body = IP(src=A4, dst=B4) / TCP()
    ether = TAGS["untagged"]
    plain, single = bytes(ether() / body), bytes(ether() / Dot1Q(vlan=5, prio=6, dei=1) / body)
    double = bytes(ether() / Dot1AD(vlan=7, prio=3) / Dot1Q(vlan=5) / body)
    assert edited(plain, single, double, vlan="del") == [
        plain,
        plain,
        bytes(ether() / Dot1Q(vlan=5) / body),
    ]
    assert edited(plain, single, double, vlan="4094") == [
        plain,
        bytes(ether() / Dot1Q(vlan=4094, prio=6, dei=1) / body),
        bytes(ether() / Dot1AD(vlan=4094, prio=3) / Dot1Q(vlan=5) / body),
    ]


def test_a_tag_that_is_not_whole_is_none():
    frame = framed(PACKETS["tcp"](same), "tagged")
    for cut in (14, 15, 16, 17):
        assert edited(frame[:cut], vlan="del") == [frame[:cut]]
    assert edited(frame[:18], vlan="del") == [frame[:12] + frame[16:18]]
    assert edited(frame[:13], vlan="add:1", dst_mac=bytes(6)) == [frame[:13]]


def test_a_frame_that_loses_its_tag_is_filled_up_when_asked_to():
    frame = framed(IP(src=A4, dst=B4) / UDP(), "tagged")
    short, exact, long = frame.ljust(60, b"\1"), frame.ljust(62, b"\1"), frame.ljust(80, b"\1")
    wanted = [data[:12] + data[16:] for data in (short, exact, long)]
    assert edited(short, exact, long, vlan="del") == wanted
    filled = [data.ljust(60, b"\0") for data in wanted]
    assert edited(short, exact, long, vlan="del", pad=True) == filled
    assert edited(frame, vlan="del", pad=True) == [(frame[:12] + frame[16:]).ljust(46, b"\0")]


def is_tagged(data: bytes) -> bool:
    return len(data) >= 18 and data[12:14] == b"\x81\x00"


@given(st.lists(st.integers(0, 300), max_size=40), st.sampled_from(["add:7", "del", "7"]))
def test_packets_keep_clear_of_each_other_when_their_lengths_change(sizes, vlan):
    head = bytes(12) + b"\x81\x00\x00\x05"
    frames = [(head + bytes([i + 1]) * size) for i, size in enumerate(sizes)]
    edits = {
        "add:7": lambda data: bytes(12) + b"\x81\x00\x00\x07" + data[12:],
        "del": lambda data: data[:12] + data[16:] if is_tagged(data) else data,
        "7": lambda data: data[:15] + b"\x07" + data[16:] if is_tagged(data) else data,
    }
    packets = PacketSet()
    for frame in frames:
        packets.append(frame)
    rewriter, wanted = Rewriter(vlan=vlan), frames
    for _ in range(3):
        rewriter.apply(packets)
        wanted = [edits[vlan](data) for data in wanted]
        assert [packet[1] for packet in packets] == wanted
    packets.append(b"one more, after all of them")
    assert [packet[1] for packet in packets] == [*wanted, b"one more, after all of them"]


def test_all_edits_go_together():
    before = framed(PACKETS["udp6"](same), "tagged")
    ether = Ether(dst="02:00:00:00:00:0a", src="02:00:00:00:00:0b")
    wanted = ether / Dot1Q(vlan=9) / Dot1Q(vlan=100, prio=5) / PACKETS["udp6"](moved)
    got = edited(before, dst_mac="02-00-00-00-00-0a", src_mac="02000000000b",
                 vlan="add:9", map_ip=MAPS)[0]  # fmt: skip
    assert got == bytes(wanted)


# -- any bytes at all ------------------------------------------------------------------------------

IPV4 = st.integers(0x01000000, 0xDFFFFFFF).map(ipaddress.IPv4Address).map(str)
IPV6 = st.integers(1 << 125, (1 << 126) - 1).map(ipaddress.IPv6Address).map(str)


@given(st.one_of(st.tuples(IPV4, IPV4), st.tuples(IPV6, IPV6)), st.binary(max_size=200),
       st.sampled_from([TCP, UDP]), st.sampled_from(sorted(TAGS)))  # fmt: skip
def test_checksums_stay_right_for_any_addresses_and_payload(ends, payload, transport, tags):
    build = v6 if ":" in ends[0] else v4
    body = transport(sport=7, dport=9) / Raw(payload)
    before, wanted = (framed(build(how, *ends) / body, tags) for how in (same, randomised))
    assert edited(before, seed=SEED) == [wanted]


@settings(max_examples=300)
@given(st.data())
def test_damaged_packets_are_survived_and_leave_their_neighbours_alone(data):
    name = data.draw(st.sampled_from(sorted(PACKETS)))
    error = data.draw(st.sampled_from([None, *sorted(ERRORS)]))
    packet = PACKETS[name](same)
    if error is not None:
        packet = ERRORS[error](same) / Raw(bytes(packet))
    frame = bytearray(framed(packet, data.draw(st.sampled_from(sorted(TAGS)))))
    for _ in range(data.draw(st.integers(1, 6))):
        frame[data.draw(st.integers(12, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(frame[: data.draw(st.integers(0, len(frame)))])
    guard = bytes(range(256))
    before, got, after = edited(guard, cut, guard, seed=SEED, map_ip=MAPS)
    assert before == after
    assert len(got) == len(cut)
    assert got[:12] == cut[:12]
