"""The program's flow hash on packets of many kinds, against the definition (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address

import pytest
from abi_header import CONSTANTS, read_meta
from kernel_requirements import FRAGS
from packet_builders import ICMP, TCP, UDP, arp, ip_packet
from receiver_namespace import in_receiver
from scapy.layers import inet, inet6
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw
from scapy_packets import A4, A6, B4, B6, TAGS, TEXT, same, v4, v6
from toeplitz import symmetric_hash

from xdpcap.errors import UsageError
from xdpcap.programs.builds import OBJECTS
from xdpcap.programs.program import Program
from xdpcap.programs.test_run import run_once
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk

pytestmark = FRAGS

PORTS = (40000, 53)
ENDS = {4: (A4, B4), 6: (A6, B6)}
FLOWS = 200


def hashes(lab, frames: list[bytes], variant: str = "frags", **options) -> list[int | None]:
    """What the program says of each frame; None where it says that there is no hash."""
    options = {"flow_hash": True} | options
    found = []
    with (
        Program(str(OBJECTS / f"record_{variant}.bpf.o"), 1, **options) as program,
        Umem(1 << 20) as umem,
        Xsk(umem, "rx0", 0) as xsk,
    ):
        program.bind_queue(0, xsk.fd)
        for frame in frames:
            run = run_once(program, frame, ifindex=lab.rx_ifindex)
            assert run.packet == frame
            meta = read_meta(run.metadata)
            has_hash = meta["flags"] & CONSTANTS["XDPCAP_META_HASH"]
            assert has_hash or meta["hash"] == 0
            found.append(meta["hash"] if has_hash else None)
    return found


def frame(packet: Packet, tags: str = "untagged") -> bytes:
    return bytes(TAGS[tags]() / packet)


@pytest.mark.parametrize("variant", ["frags", "plain"])
@in_receiver
def test_the_hash_is_toeplitz_of_the_folded_addresses_and_ports(lab, variant):
    # Seeded: the same flows every time, of every bit.
    numbers = random.Random(6)
    frames, expected = [], []
    for _ in range(FLOWS):
        for address, bits in ((IPv4Address, 32), (IPv6Address, 128)):
            ends = str(address(numbers.getrandbits(bits))), str(address(numbers.getrandbits(bits)))
            ports = numbers.getrandbits(16), numbers.getrandbits(16)
            for protocol in (TCP, UDP):
                frames.append(ip_packet(*ends, protocol, ports))
                expected.append(symmetric_hash(*ends, ports))
            frames.append(ip_packet(*ends, ICMP))
            expected.append(symmetric_hash(*ends))
    assert hashes(lab, frames, variant) == expected


@pytest.mark.parametrize("version", [4, 6])
@in_receiver
def test_both_directions_have_one_hash_and_another_port_has_another(lab, version):
    one, other = ENDS[version]
    frames = [
        ip_packet(one, other, TCP, PORTS),
        ip_packet(other, one, TCP, PORTS[::-1]),
        ip_packet(one, other, TCP, (PORTS[0] + 1, PORTS[1])),
    ]
    there, back, another = hashes(lab, frames)
    assert there == back != another


@pytest.mark.parametrize("tags", ["untagged", "tagged", "double"])
@pytest.mark.parametrize("version", [4, 6])
@in_receiver
def test_a_vlan_changes_nothing(lab, version, tags):
    build = v4 if version == 4 else v6
    packet = build(same) / inet.UDP(sport=PORTS[0], dport=PORTS[1]) / TEXT
    assert hashes(lab, [frame(packet, tags)]) == [symmetric_hash(*ENDS[version], PORTS)]


@in_receiver
def test_a_third_tag_is_not_looked_behind(lab):
    assert hashes(lab, [frame(v4(same), "triple")]) == [None]


@in_receiver
def test_options_and_extension_headers_are_stepped_over(lab):
    ports = {"sport": PORTS[0], "dport": PORTS[1]}
    hop, ends = inet6.IPv6ExtHdrHopByHop(), inet6.IPv6ExtHdrDestOpt()
    via = inet6.IPv6ExtHdrRouting(addresses=["2001:db8::9"])
    four = v4(same, options=[inet.IPOption_NOP()] * 40)
    frames = [
        frame(four / inet.TCP(**ports)),
        frame(v6(same) / hop / inet.TCP(**ports)),
        frame(v6(same) / hop / ends / via / ends / SCTP(**ports)),
        frame(v6(same) / hop / ends / ends / ends / ends / inet.TCP(**ports)),
    ]
    one, six = (symmetric_hash(*ENDS[version], PORTS) for version in (4, 6))
    assert hashes(lab, frames) == [one, six, six, symmetric_hash(*ENDS[6])]


@in_receiver
def test_every_fragment_is_hashed_by_its_addresses_alone(lab):
    whole4 = v4(same) / inet.UDP(sport=PORTS[0], dport=PORTS[1]) / Raw(bytes(3000))
    whole6 = v6(same) / inet6.IPv6ExtHdrFragment() / inet.UDP(sport=1, dport=2) / Raw(bytes(3000))
    four = [frame(piece) for piece in inet.fragment(whole4, 1000)]
    six = [frame(piece) for piece in inet6.fragment6(whole6, 1000)]
    assert len(four) > 2 and len(six) > 2
    by_address = [symmetric_hash(*ENDS[4])] * len(four) + [symmetric_hash(*ENDS[6])] * len(six)
    assert hashes(lab, four + six) == by_address


@in_receiver
def test_what_is_not_ip_and_what_is_cut_off_has_no_hash(lab):
    four, six = (ip_packet(*ENDS[version], TCP, PORTS) for version in (4, 6))
    tagged = frame(v4(same) / inet.TCP(), "tagged")
    frames = [arp(A4, B4), four[:33], six[:53], tagged[:17], four[:14]]
    assert hashes(lab, frames) == [None] * len(frames)


@in_receiver
def test_a_packet_that_ends_before_its_ports_is_hashed_by_its_addresses(lab):
    four, six = (ip_packet(*ENDS[version], TCP, PORTS) for version in (4, 6))
    expected = [symmetric_hash(*ENDS[version]) for version in (4, 6)]
    assert hashes(lab, [four[:37], six[:57]]) == expected


@in_receiver
def test_a_program_that_is_not_asked_for_it_hashes_nothing(lab):
    assert hashes(lab, [ip_packet(A4, B4, TCP, PORTS)], flow_hash=False) == [None]


def test_the_legacy_variant_has_no_hash():
    with pytest.raises(UsageError, match="no hash"):
        Program(str(OBJECTS / "record_legacy.bpf.o"), 1, flow_hash=True)
