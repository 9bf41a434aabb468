"""What packets come with: VLAN tags that a device took off, and a hash; by the driver or not.

A veth's driver tells its programs what it knows of an skb: a tag that lies beside the packet, and
the kernel's own flow hash. Of XDP frames, which have no skb, it knows nothing.
"""

from __future__ import annotations

import os
import socket
import struct

import pytest
from capture_files import contents, packets, tshark_fields
from kernel_requirements import DRIVER_HASH, DRIVER_TAGS
from ledger_checks import Wire, check_books
from packet_builders import ICMP, TCP, UDP, arp, ip_packet
from patched_command import EACH_MIRROR_BUILD, MIRROR_BUILDS, older_kernel
from recorder import Result
from toeplitz import symmetric_hash
from vlan_offload import PROTOCOLS, send_skbs, tag_what_leaves, tagged

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.savefile.reader import read_blocks

TOEPLITZ, UNTOLD = 5, 0xFF
ONE, OTHER, PORTS = "10.0.0.1", "10.0.0.2", (40000, 80)
FLOW = [
    ip_packet(ONE, OTHER, TCP, PORTS),
    ip_packet(OTHER, ONE, TCP, PORTS[::-1]),
    ip_packet(ONE, OTHER, UDP, (PORTS[0] + 1, PORTS[1])),
]
# Before 5.11 the locked memory of root is limited too; this is less than any default.
LITTLE_MEMORY = ("--umem-size", "2MiB")
LENGTHS = (60, 61, 590, 1514)


@pytest.fixture
def tagging(make_lab):
    """A lab whose sender leaves VLAN tags beside the packet, for a device that there is not."""
    return make_lab(offloads=True)


def hashes(result: Result) -> list[bytes | None]:
    """epb_hash of every packet."""
    return [packet.options.get("epb_hash", [None])[0] for packet in packets(result.files)]


def epb_hash(value: int, algorithm: int = TOEPLITZ) -> bytes:
    return bytes([algorithm]) + value.to_bytes(4, "big")


def comments(result: Result) -> list[str]:
    return list(read_blocks(result.files[0]))[1].options["opt_comment"]


# --- VLAN tags


@DRIVER_TAGS
@pytest.mark.parametrize("file_format", ["pcapng", "pcap"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_tag_that_lay_beside_the_packet_is_back_in_its_place(
    tagging, record, tmp_path, protocol, file_format
):
    tag_what_leaves(tagging, tmp_path, 100, protocol)
    sent = [numbered_frame(length, n) for n, length in enumerate(LENGTHS)]
    recorder = record("--json", "--format", file_format, lab=tagging)
    send_skbs(tagging, sent)
    recorder.wait_for(lambda: tagging.statistics()["rx_packets"] >= len(sent))
    result = recorder.stop()
    assert check_books(result)["written"] == len(sent)
    found = packets(result.files)
    assert [p.data for p in found] == [tagged(frame, 100, protocol) for frame in sent]
    assert [p.origlen for p in found] == [length + 4 for length in LENGTHS]
    assert "VLAN tags that the device takes off are put back" in result.stderr
    assert "tx-vlan" not in result.stderr


@DRIVER_TAGS
def test_of_two_tags_the_outer_one_is_put_back_and_the_inner_one_was_never_gone(
    tagging, record, tmp_path
):
    tag_what_leaves(tagging, tmp_path, 7, "802.1ad")
    inner = tagged(numbered_frame(60, 1), 100)
    recorder = record("--json", lab=tagging)
    send_skbs(tagging, [inner])
    recorder.wait_for(lambda: tagging.statistics()["rx_packets"])
    result = recorder.stop()
    assert contents(result.files) == [tagged(inner, 7, "802.1ad")]
    assert tshark_fields(result.files[0], "ieee8021ad.id", "vlan.id") == [["7", "100"]]


@DRIVER_TAGS
def test_packets_with_a_tag_beside_them_and_without_go_through_each_other(
    tagging, record, tmp_path
):
    tag_what_leaves(tagging, tmp_path, 9, "802.1q", "-DODD")
    sent = [numbered_frame(60, n)[:-1] + bytes([n]) for n in range(40)]
    recorder = record("--json", lab=tagging)
    send_skbs(tagging, sent)
    recorder.wait_for(lambda: tagging.statistics()["rx_packets"] >= len(sent))
    result = recorder.stop()
    assert check_books(result)["written"] == len(sent)
    assert contents(result.files) == [tagged(f, 9) if f[-1] % 2 else f for f in sent]


@DRIVER_TAGS
@pytest.mark.parametrize("snaplen", [13, 16, 60, 64])
def test_the_snapshot_length_counts_the_tag(tagging, record, tmp_path, snaplen):
    tag_what_leaves(tagging, tmp_path, 100)
    frame = numbered_frame(60, 1)
    recorder = record("--json", "-s", str(snaplen), lab=tagging)
    send_skbs(tagging, [frame])
    recorder.wait_for(lambda: tagging.statistics()["rx_packets"])
    (packet,) = packets(recorder.stop().files)
    assert packet.data == tagged(frame, 100)[:snaplen]
    assert (packet.caplen, packet.origlen) == (min(snaplen, 64), 64)


@DRIVER_TAGS
def test_a_packet_of_several_frames_gets_its_tag_back(make_lab, record, tmp_path):
    lab = make_lab(mtu=9000, offloads=True)
    tag_what_leaves(lab, tmp_path, 100)
    sent = [numbered_frame(length, 1) for length in (1700, 4100, 9000)]
    recorder = record("--json", lab=lab)
    send_skbs(lab, sent)
    recorder.wait_for(lambda: lab.statistics()["rx_packets"] >= len(sent))
    result = recorder.stop()
    assert check_books(result)["written"] == len(sent)
    assert contents(result.files) == [tagged(frame, 100) for frame in sent]


@DRIVER_TAGS
@pytest.mark.parametrize("snaplen", [0, 14, 61])
def test_a_mirror_puts_tags_back_as_well(make_lab, record, tmp_path, snaplen):
    lab = make_lab(mtu=9000, offloads=True)
    tag_what_leaves(lab, tmp_path, 9, "802.1q", "-DODD")
    lengths = [length for length in (60, 61, 1514, 4100, 9000) for _ in range(2)]
    sent = [numbered_frame(length, n)[:-1] + bytes([n]) for n, length in enumerate(lengths)]
    recorder = record("--json", "--mirror", "-s", str(snaplen), lab=lab)
    send_skbs(lab, sent)
    recorder.wait_for(lambda: lab.statistics()["rx_packets"] >= len(sent))
    result = recorder.stop()
    assert check_books(result)["mirrored"] == len(sent)
    found = packets(result.files)
    whole = [tagged(frame, 9) if frame[-1] % 2 else frame for frame in sent]
    assert [packet.data for packet in found] == [frame[: snaplen or None] for frame in whole]
    assert [packet.origlen for packet in found] == [len(frame) for frame in whole]
    assert "VLAN tags that the device takes off are put back" in result.stderr


@DRIVER_TAGS
@pytest.mark.parametrize(("expression", "matching"), [("udp", 5), ("vlan 100", 0)])
def test_a_filter_decides_by_the_packet_without_the_tag_that_lies_beside_it(
    tagging, record, tmp_path, expression, matching
):
    tag_what_leaves(tagging, tmp_path, 100)
    sent = [numbered_frame(60, n) for n in range(5)]
    recorder = record("--json", expression, lab=tagging)
    send_skbs(tagging, sent)
    recorder.wait_for(lambda: tagging.statistics()["rx_packets"] >= len(sent))
    result = recorder.stop()
    total = check_books(result)
    assert (total["written"], total["filtered"]) == (matching, len(sent) - matching)
    assert contents(result.files) == [tagged(frame, 100) for frame in sent[:matching]]


def test_in_generic_mode_no_driver_tells_of_tags_and_the_start_up_report_warns(tagging, record):
    result = record("--json", "--attach", "generic", lab=tagging).stop()
    assert "are put back" not in result.stderr
    assert "ethtool -K tx0 tx-vlan-offload off" in result.stderr


# --- the program's hash


def test_each_packet_has_the_programs_hash_unless_told_otherwise(lab, record):
    others = [ip_packet(ONE, OTHER, ICMP), arp(ONE, OTHER)]
    recorder = record("--json")
    send_frames(lab, FLOW + others)
    result = recorder.stop()
    assert contents(result.files) == FLOW + others
    flows = [symmetric_hash(ONE, OTHER, ports) for ports in (PORTS, PORTS, (PORTS[0] + 1, 80))]
    by_address = symmetric_hash(ONE, OTHER)
    assert hashes(result) == [*map(epb_hash, [*flows, by_address]), None]
    assert "hash by the program (Toeplitz)" in result.stderr
    assert any("Toeplitz by the XDP program" in comment for comment in comments(result))


@pytest.mark.parametrize("build", EACH_MIRROR_BUILD)
def test_a_mirrors_copies_have_it_as_well(lab, record, build):
    recorder = record("--json", "--mirror", env=MIRROR_BUILDS[build])
    assert build in recorder.stderr and "hash by the program (Toeplitz)" in recorder.stderr
    send_frames(lab, [*FLOW, arp(ONE, OTHER)])
    flows = [symmetric_hash(ONE, OTHER, ports) for ports in (PORTS, PORTS, (PORTS[0] + 1, 80))]
    assert hashes(recorder.stop()) == [*map(epb_hash, flows), None]


def test_packets_without_an_skb_have_it_as_well(lab, record):
    recorder = record("--json", "--hash", "program")
    Wire(lab).blast(50)
    recorder.wait_for(lambda: lab.statistics()["rx_packets"] >= 50)
    result = recorder.stop()
    found = packets(result.files)
    assert len(found) == check_books(result)["written"] > 0
    for packet, told in zip(found, hashes(result), strict=True):
        source, target = (socket.inet_ntoa(packet.data[at : at + 4]) for at in (26, 30))
        ports = struct.unpack_from("!HH", packet.data, 34)
        assert told == epb_hash(symmetric_hash(source, target, ports))


@pytest.mark.parametrize("arguments", [("--hash", "off"), ("--format", "pcap")])
def test_no_hash_is_written_where_none_is_wanted_or_has_a_place(lab, record, arguments):
    recorder = record("--json", *arguments)
    send_frames(lab, FLOW)
    result = recorder.stop()
    assert contents(result.files) == FLOW
    assert hashes(result) == [None] * len(FLOW)
    assert "hash by" not in result.stderr


@pytest.mark.parametrize("release", ["6.5.0", "5.8.0"])
def test_an_older_kernel_asks_no_driver_and_hashes_all_the_same(lab, record, release):
    recorder = record("--json", *LITTLE_MEMORY, env=older_kernel(release))
    send_frames(lab, FLOW)
    result = recorder.stop()
    assert None not in hashes(result)
    assert "are put back" not in result.stderr and "hash by the program" in result.stderr


def test_a_kernel_before_global_data_records_without_a_hash(lab, record):
    recorder = record("--json", *LITTLE_MEMORY, env=older_kernel("5.2.0"))
    send_frames(lab, FLOW)
    result = recorder.stop()
    assert contents(result.files) == FLOW
    assert hashes(result) == [None] * len(FLOW)


# --- the driver's hash


@DRIVER_HASH
@pytest.mark.parametrize("mode", [(), ("--mirror",)], ids=["redirect", "mirror"])
def test_the_drivers_hash_is_there_for_packets_that_have_an_skb(lab, record, mode):
    recorder = record("--json", "--hash", "driver", *mode)
    send_skbs(lab, FLOW)
    recorder.wait_for(lambda: lab.statistics()["rx_packets"] >= len(FLOW))
    result = recorder.stop()
    assert contents(result.files) == FLOW
    told = hashes(result)
    assert {value[0] for value in told} == {UNTOLD}
    there, back, other = (value[1:] for value in told)
    # The kernel's own is symmetric, too (__flow_hash_consistentify() in flow_dissector.c).
    assert there == back != other
    assert "hash by the driver" in result.stderr
    assert any("by the driver" in comment for comment in comments(result))


@DRIVER_HASH
def test_packets_that_the_driver_has_no_hash_for_have_none(lab, record):
    recorder = record("--json", "--hash", "driver")
    Wire(lab).blast(50)
    recorder.wait_for(lambda: lab.statistics()["rx_packets"] >= 50)
    result = recorder.stop()
    assert set(hashes(result)) == {None}


@pytest.mark.parametrize(
    ("arguments", "env", "why"),
    [
        (["--attach", "generic"], {}, "only a native program can query a driver"),
        pytest.param([], older_kernel("6.5.0"), "the kernel accepted no", marks=DRIVER_HASH),
    ],
)
def test_a_driver_that_can_not_be_asked_is_one_clear_line(lab, record, arguments, env, why):
    options = {"env": {**os.environ, **env}} if env else {}
    result = record("--hash", "driver", *arguments, ready=False, **options).wait()
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if "--hash driver" in line]
    assert why in line and "use --hash program" in line


def test_pcap_refuses_to_be_asked_for_a_hash(lab, record):
    result = record("--hash", "program", "--format", "pcap", ready=False).wait()
    assert result.returncode == 2
    assert "pcap has no place for a hash" in result.stderr
