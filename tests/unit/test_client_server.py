"""Client or server: by prefix, as recorded, and as a capture's conversations show."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_builders import ACK, ICMP, SYN, TCP, UDP, arp, ethernet, ip_packet, packet_set

from xdpcap.errors import XdpcapError
from xdpcap.packets.client_server import PrefixSides, RecordedSides, runs_of, spread
from xdpcap.packets.conversations import FlowSides
from xdpcap.packets.packet_set import PacketSet

A, B = "192.0.2.1", "198.51.100.7"
SIX_A, SIX_B = "2001:db8::1", "2001:db8:1::1"
CLIENT, SERVER = 0, 1


def by_prefix(packet: bytes, *prefixes: str) -> int:
    sides = PrefixSides([ip_network(prefix) for prefix in prefixes])
    return int(sides.of(packet_set(packet))[0])


@pytest.mark.parametrize(
    ("packet", "prefixes", "side"),
    [
        (ip_packet(A, B), ["192.0.2.0/24"], SERVER),
        (ip_packet(B, A), ["192.0.2.0/24"], CLIENT),
        (ip_packet(A, B), ["192.0.2.1/32"], SERVER),
        (ip_packet(A, B), ["192.0.2.0/32"], CLIENT),
        (ip_packet("192.0.2.129", B), ["192.0.2.128/25"], SERVER),
        (ip_packet("192.0.2.127", B), ["192.0.2.128/25"], CLIENT),
        (ip_packet(A, B), ["0.0.0.0/0"], SERVER),
        (ip_packet(A, B), ["::/0"], CLIENT),
        (ip_packet(SIX_A, SIX_B), ["::/0"], SERVER),
        (ip_packet(SIX_A, SIX_B), ["0.0.0.0/0"], CLIENT),
        (ip_packet(SIX_A, SIX_B), ["2001:db8::/47"], SERVER),
        (ip_packet(SIX_A, SIX_B), ["2001:db8:1::/48"], CLIENT),
        (ip_packet(SIX_A, SIX_B), ["2001:db8::1/128"], SERVER),
        (ip_packet(A, B, vlans=(5,)), ["192.0.2.0/24"], SERVER),
        (ip_packet(A, B, vlans=(5, 6)), ["192.0.2.0/24"], SERVER),
        (ip_packet(A, B), ["203.0.113.0/24", "192.0.2.0/24"], SERVER),
        (arp(A, B), ["192.0.2.0/24"], SERVER),
        (arp(B, A), ["192.0.2.0/24"], CLIENT),
        (arp(A, B)[:-1], ["0.0.0.0/0"], CLIENT),
        (ethernet(0x88CC, bytes(50)), ["0.0.0.0/0", "::/0"], CLIENT),
        (bytes(14), ["0.0.0.0/0", "::/0"], CLIENT),
    ],
)
def test_a_prefix_tells_the_side_of_its_senders(
    packet: bytes, prefixes: list[str], side: int
) -> None:
    assert by_prefix(packet, *prefixes) == side


@given(st.binary(min_size=14, max_size=80))
def test_any_bytes_have_a_side(packet: bytes) -> None:
    assert by_prefix(packet, "0.0.0.0/0", "::/0") in (CLIENT, SERVER)
    flows = FlowSides()
    flows.add(packet_set(packet))
    assert flows.decide()[0] in (CLIENT, SERVER)


def test_sides_can_be_asked_for_the_end_of_a_set() -> None:
    packets = packet_set(ip_packet(B, A), ip_packet(A, B), ip_packet(A, B))
    sides = PrefixSides([ip_network("192.0.2.0/24")])
    assert sides.of(packets) == b"\0\1\1"
    assert sides.of(packets, 1) == b"\1\1"
    assert sides.of(packets, 3) == b""
    assert sides.of(PacketSet()) == b""


# -- as recorded ------------------------------------------------------------------------------


def numbered(*numbers: int) -> PacketSet:
    packets = PacketSet()
    for number in numbers:
        packets.append(bytes(60), number=number)
    return packets


def test_recorded_sides_are_those_of_the_packets_numbers() -> None:
    sides = RecordedSides([[2, 3, 1]])
    assert sides.count == 6
    assert sides.of(numbered(1, 2, 3, 4, 5, 6)) == b"\0\0\1\1\1\0"
    assert sides.of(numbered(3, 6)) == b"\1\0"


def test_packets_numbered_by_file_are_counted_on_from_the_files_before() -> None:
    sides = RecordedSides([[1, 2], [0, 1, 1]])
    assert sides.of(numbered(1, 2, 3, 4, 5)) == b"\0\1\1\1\0"
    assert sides.of(numbered(1, 2), offset=3) == b"\1\0"


def test_a_packet_that_was_not_recorded_is_refused() -> None:
    sides = RecordedSides([[1, 2]])
    with pytest.raises(XdpcapError, match="packet 4 is not in the split's cache; make it anew"):
        sides.of(numbered(4))
    with pytest.raises(XdpcapError):
        sides.of(numbered(1), offset=3)


@given(st.lists(st.binary(max_size=70).map(lambda b: bytes(x & 1 for x in b)), max_size=4))
def test_runs_give_back_the_sides_that_they_were_made_of(files: list[bytes]) -> None:
    runs = [runs_of(sides) for sides in files]
    assert [sum(one) for one in runs] == list(map(len, files))
    assert all(run > 0 for one in runs for run in one[1:])
    whole = b"".join(files)
    recorded = RecordedSides(runs)
    assert recorded.of(numbered(*range(1, len(whole) + 1))) == whole


def test_sides_are_spread_to_where_the_numbers_say() -> None:
    into = bytearray(b"\1")
    spread(numbered(3, 5), b"\1\1", into)
    spread(numbered(2), b"\1", into, 5)
    spread(PacketSet(), b"", into)
    assert into == b"\1\0\1\0\1\0\1"
    with pytest.raises(ValueError):
        spread(numbered(1), b"", into)


# -- as the capture shows ---------------------------------------------------------------------


def found(*packets: bytes) -> tuple[list[int], dict[str, int]]:
    """The sides of these packets, and what conversations were decided by."""
    flows = FlowSides()
    flows.add(packet_set(*packets))
    sides = list(flows.decide())
    return sides, {how: count for how, count in flows.decided_by.items() if count}


def test_who_sends_the_first_syn_is_the_client_whatever_the_ports() -> None:
    there, back = (80, 50000), (50000, 80)
    sides, by = found(
        ip_packet(A, B, TCP, there, flags=SYN),
        ip_packet(B, A, TCP, back, flags=SYN | ACK),
        ip_packet(A, B, TCP, there),
        ip_packet(B, A, TCP, back),
    )
    assert sides == [0, 1, 0, 1]
    assert by == {"handshake": 1}


def test_who_answers_a_syn_is_the_server() -> None:
    sides, by = found(
        ip_packet(B, A, TCP, (50000, 80)),
        ip_packet(A, B, TCP, (80, 50000)),
        ip_packet(B, A, TCP, (50000, 80), flags=SYN | ACK),
    )
    assert sides == [1, 0, 1]
    assert by == {"handshake": 1}


def test_a_handshake_later_in_the_capture_decides_the_packets_before_it() -> None:
    first = ip_packet(A, B, TCP, (1000, 2000))
    syn = ip_packet(A, B, TCP, (1000, 2000), flags=SYN)
    assert found(first)[0] == [1]
    assert found(first, syn)[0] == [0, 0]


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize(("a", "b"), [(A, B), (B, A), (SIX_A, SIX_B), (SIX_B, SIX_A)])
def test_without_a_handshake_the_lower_port_is_the_servers(protocol: int, a: str, b: str) -> None:
    sides, by = found(
        ip_packet(a, b, protocol, (53, 40000)),
        ip_packet(b, a, protocol, (40000, 53)),
        ip_packet(a, b, protocol, (255, 256)),
        ip_packet(b, a, protocol, (256, 255)),
    )
    assert sides == [1, 0, 1, 0]
    assert by == {"ports": 2}


@pytest.mark.parametrize(("a", "b"), [(A, B), (B, A)])
def test_without_ports_or_with_equal_ones_who_sends_first_is_the_client(a: str, b: str) -> None:
    assert found(ip_packet(a, b, ICMP), ip_packet(b, a, ICMP)) == ([0, 1], {"first": 1})
    ntp = (123, 123)
    assert found(ip_packet(a, b, UDP, ntp), ip_packet(b, a, UDP, ntp)) == ([0, 1], {"first": 1})


def test_without_ports_two_hosts_are_what_they_are_in_their_other_conversations() -> None:
    sides, by = found(
        ip_packet(B, A, ICMP),
        ip_packet(A, B, UDP, (40000, 53)),
        ip_packet(B, A, UDP, (0, 0), fragment=100),
    )
    assert sides == [1, 0, 1]
    assert by == {"hosts": 2, "ports": 1}


def test_a_handshake_says_more_of_two_hosts_than_ports_do() -> None:
    sides, _ = found(
        ip_packet(A, B, UDP, (40000, 53)),
        ip_packet(B, A, TCP, (1024, 2000), flags=SYN),
        ip_packet(A, B, ICMP),
    )
    assert sides == [0, 0, 1]


def test_conversations_of_the_same_hosts_are_decided_each_by_itself() -> None:
    sides, by = found(
        ip_packet(A, B, TCP, (5000, 80), flags=SYN),
        ip_packet(B, A, TCP, (5001, 80), flags=SYN),
        ip_packet(A, B, UDP, (5000, 80)),
        ip_packet(A, B, UDP, (80, 5001)),
    )
    assert sides == [0, 0, 0, 1]
    assert by == {"handshake": 2, "ports": 2}


def test_what_is_not_ip_goes_with_its_senders_other_packets() -> None:
    lldp = [ethernet(0x88CC, bytes(46), host) for host in (0, 1)]
    sides, by = found(
        lldp[0],
        lldp[1],
        arp(A, B, host=0),
        arp(B, A, host=1),
        ip_packet(A, B, TCP, (80, 5000), host=0),
        ip_packet(B, A, TCP, (5000, 80), host=1),
    )
    assert sides == [1, 0, 1, 0, 1, 0]
    assert by == {"ports": 1}


def test_most_packets_decide_for_a_mac_address_that_is_on_both_sides() -> None:
    packets = [
        ip_packet(A, B, UDP, (53, 5000), host=0),
        ip_packet(A, B, UDP, (5000, 80), host=0),
        ip_packet(A, B, UDP, (5000, 80), host=0),
        arp(A, B, host=0),
    ]
    assert found(*packets)[0] == [1, 0, 0, 0]
    assert found(packets[0], packets[0], packets[1], packets[3])[0] == [1, 1, 0, 1]
    # As many on both: the client's, as where there is no IP at all.
    assert found(packets[0], packets[1], packets[3])[0] == [1, 0, 0]
    assert found(packets[3])[0] == [0]


def test_a_host_that_talks_to_itself_does_not_decide_for_its_fragments() -> None:
    sides, by = found(
        ip_packet(A, A, UDP, (40000, 53)),
        ip_packet(A, A, UDP, (53, 40000)),
        ip_packet(A, A, ICMP),
    )
    assert sides == [0, 1, 0]
    assert by == {"ports": 1, "first": 1}


def test_numbers_that_no_packet_has_are_the_clients() -> None:
    flows = FlowSides()
    packets = PacketSet()
    packets.append(ip_packet(A, B, UDP, (53, 5000)), number=3)
    flows.add(packets)
    flows.add(packets, 3)
    assert flows.decide() == b"\0\0\1\0\0\1"


def test_nothing_is_added_or_decided_after_the_decision() -> None:
    flows = FlowSides()
    assert flows.decide() == b""
    for call in (flows.decide, lambda: flows.add(packet_set(bytes(60)))):
        with pytest.raises(ValueError, match="decided"):
            call()


def test_a_hundred_thousand_conversations_are_told_apart() -> None:
    # The tables grow several times on the way.
    flows = FlowSides()
    for half in range(2):
        packets = PacketSet()
        for number in range(100_000):
            ends = ("10.0.0.1", f"10.1.{number >> 8 & 255}.{number & 255}")
            ports = (1024 + (number >> 16), 60000)
            if half:
                ends, ports = ends[::-1], ports[::-1]
            packets.append(ip_packet(*ends, UDP, ports))
        flows.add(packets, half * 100_000)
    sides = flows.decide()
    assert sides == b"\1" * 100_000 + b"\0" * 100_000
    assert flows.decided_by["ports"] == 100_000
