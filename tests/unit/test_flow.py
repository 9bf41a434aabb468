"""Which packets are one flow: both directions, all fragments, whatever the VLAN."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_builders import arp, ip_packet
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    fragment6,
)
from scapy.layers.l2 import ARP, LLC, STP, Dot3, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw
from scapy_packets import A4, A6, B4, B6, PACKETS, TAGS, same, v4, v6

from xdpcap.packets.flow import hash_of
from xdpcap.packets.packet_set import PacketSet
from xdpcap.replay.plan import divide


def flow(packet: Packet, tags: str = "untagged") -> int:
    return hash_of(bytes(TAGS[tags]() / packet))


def ends(version: int, there: bool, transport: Packet) -> Packet:
    build, one, other = (v4, A4, B4) if version == 4 else (v6, A6, B6)
    return build(same, *((one, other) if there else (other, one))) / transport


# -- what is one flow -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("transport", [TCP, UDP, SCTP])
def test_both_directions_are_one_flow_and_another_port_is_another(version, transport):
    there = flow(ends(version, True, transport(sport=1000, dport=53)))
    assert there == flow(ends(version, False, transport(sport=53, dport=1000)))
    others = [
        ends(version, True, transport(sport=1001, dport=53)),
        ends(version, True, transport(sport=1000, dport=54)),
        ends(version, True, transport(sport=53, dport=1000)),
        ends(version, False, transport(sport=1000, dport=53)),
    ]
    assert len({there, *map(flow, others[:3])}) == 4
    assert flow(others[2]) == flow(others[3])


def test_the_protocol_belongs_to_the_flow():
    ports = {"sport": 1000, "dport": 53}
    assert len({flow(ends(4, True, kind(**ports))) for kind in (TCP, UDP, SCTP)}) == 3


def test_what_is_in_a_packet_beyond_its_ends_does_not_matter():
    base = flow(ends(4, True, TCP(sport=1, dport=2)))
    for packet in (
        ends(4, True, TCP(sport=1, dport=2, seq=9, flags="F", window=3) / Raw(b"data")),
        v4(same, ttl=3, tos=8, id=99, flags="DF") / TCP(sport=1, dport=2),
    ):
        assert flow(packet) == base


@pytest.mark.parametrize("name", PACKETS)
def test_vlan_tags_are_stepped_over(name):
    assert len({flow(PACKETS[name](same), tags) for tags in TAGS}) == 1


def test_ipv6_extension_headers_are_stepped_over():
    tcp = TCP(sport=1, dport=2)
    base = flow(v6(same) / tcp)
    for extension in (
        IPv6ExtHdrHopByHop(),
        IPv6ExtHdrDestOpt(),
        IPv6ExtHdrRouting(addresses=[A6], segleft=0),
        IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(),
    ):
        assert flow(v6(same) / extension / tcp) == base


@pytest.mark.parametrize("transport", [UDP(sport=1, dport=2), TCP(), ICMP()])
def test_all_fragments_of_a_packet_are_one_flow_in_both_directions(transport):
    data = transport / Raw(bytes(3000))
    there = fragment(IP(bytes(ends(4, True, data))), 800)
    back = fragment(IP(bytes(ends(4, False, data))), 800)
    assert len(there) > 3
    assert len({flow(piece) for piece in (*there, *back)}) == 1


def test_all_fragments_of_an_ipv6_packet_are_one_flow():
    data = IPv6ExtHdrFragment(id=1) / UDP(sport=1, dport=2) / Raw(bytes(3000))
    pieces = fragment6(v6(same) / data, 800) + fragment6(v6(same, B6, A6) / data, 800)
    assert len(pieces) > 6
    assert len({flow(piece) for piece in pieces}) == 1


def test_what_is_not_ip_has_no_flow():
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    for packet in (
        ether / ARP(psrc=A4, pdst=B4),
        ether / Raw(b"\x88\xcc" + bytes(40)),
        Dot3(src="02:00:00:00:00:01", dst="01:80:c2:00:00:00") / LLC() / STP(),
    ):
        assert hash_of(bytes(packet)) == 0


@pytest.mark.parametrize("name", PACKETS)
def test_a_packet_of_ip_always_has_a_flow_however_it_is_cut(name):
    frame = bytes(TAGS["tagged"]() / PACKETS[name](same))
    header = 18 + (20 if PACKETS[name](same).version == 4 else 40)
    for cut in range(len(frame)):
        assert (hash_of(frame[:cut]) != 0) == (cut >= header)


@given(st.binary(max_size=80))
def test_any_bytes_have_a_hash_or_none_and_always_the_same(data):
    for head in (b"", bytes(12) + b"\x08\x00\x45", bytes(12) + b"\x86\xdd\x60"):
        assert hash_of(head + data) == hash_of(head + data)


def test_another_process_finds_the_same_hashes():
    frames = [bytes(TAGS["tagged"]() / build(same)) for build in PACKETS.values()]
    code = "import sys; from xdpcap.packets.flow import hash_of\nfor line in sys.stdin:\n"
    code += "    print(hash_of(bytes.fromhex(line)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="".join(f"{frame.hex()}\n" for frame in frames),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert list(map(int, done.stdout.split())) == list(map(hash_of, frames))


# -- flows over queues ----------------------------------------------------------------------------


def conversations(count: int) -> list[tuple[bytes, bytes]]:
    """Both directions of TCP flows as a network of clients and one server has them."""
    draw = random.Random(3)
    found = []
    for _ in range(count):
        client, port = f"10.0.{draw.randrange(4)}.{draw.randrange(256)}", draw.randrange(65536)
        there = ip_packet(client, B4, ports=(port, 443))
        found.append((there, ip_packet(B4, client, ports=(443, port))))
    return found


@pytest.mark.parametrize("queues", [2, 3, 4, 7, 16])
def test_flows_spread_evenly_over_queues(queues):
    pairs = conversations(4000)
    assert all(hash_of(there) == hash_of(back) for there, back in pairs)
    counts = Counter(hash_of(there) % queues for there, _ in pairs)
    mean = len(pairs) / queues
    # Five standard deviations of a fair draw.
    assert all(abs(counts[queue] - mean) < 5 * mean**0.5 for queue in range(queues))


@pytest.mark.parametrize("queues", [1, 2, 5, 256])
def test_dividing_keeps_each_flow_on_one_queue_and_in_order(queues):
    pairs = conversations(200)
    draw = random.Random(4)
    frames = [draw.choice(draw.choice(pairs)) for _ in range(3000)]
    frames += [arp(A4, B4)] * 50
    draw.shuffle(frames)
    packets = PacketSet()
    for frame in frames:
        packets.append(frame)
    orders = divide(packets, queues)
    assert len(orders) == queues
    assert sorted(index for order in orders for index in order) == list(range(len(frames)))
    home: dict[int, int] = {}
    for queue, order in enumerate(orders):
        assert list(order) == sorted(order)
        for index in order:
            assert home.setdefault(packets[index][3], queue) == queue
    assert home[0] == 0
    assert len(set(home.values())) > queues // 2


@pytest.mark.parametrize("queues", [0, 257])
def test_a_number_of_queues_that_no_device_has_is_refused(queues):
    with pytest.raises(ValueError, match="from 1 to 256 queues"):
        divide(PacketSet(), queues)


def test_dividing_nothing_gives_empty_orders():
    assert [len(order) for order in divide(PacketSet(), 3)] == [0, 0, 0]
