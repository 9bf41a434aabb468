"""Several interfaces at once, other namespaces, some of the queues, and traffic of all kinds."""

from __future__ import annotations

import io
import os
import socket

import pytest
from capture_files import contents, numbers, of_queue, packets, statistics
from corpus import capture_path, read_manifest
from ledger_checks import Wire, check_books
from veth_namespaces import add_veth

from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import frame_number, mixed_frames, numbered_frame
from xdpcap.bench.lab.traffic import longest_frame, send_frames
from xdpcap.programs.program import attached_program
from xdpcap.savefile.reader import read_blocks, read_packets


def send_from(lab, name: str, frames) -> None:
    """Send from an interface in the receiver's own namespace, through a packet socket."""

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as packet_socket:
            packet_socket.bind((name, 0))
            for frame in frames:
                packet_socket.send(frame)

    in_netns(lab.rx_ns, send)


@pytest.fixture
def two_interfaces(lab):
    """The lab with a second interface to record, rx1, whose peer tx1 is beside it."""
    in_netns(lab.rx_ns, add_veth, "rx1", "tx1")
    return lab


# --- interfaces


def test_each_of_two_interfaces_has_its_own_files(two_interfaces, record):
    recorder = record("--json", lab=two_interfaces, interfaces=["rx0", "rx1"])
    first, second = list(mixed_frames(400, seed=1)), list(mixed_frames(300, seed=2))
    send_frames(two_interfaces, first)
    send_from(two_interfaces, "tx1", second)
    result = recorder.stop()
    assert check_books(result)["written"] == 700
    for name, sent in (("rx0", first), ("rx1", second)):
        (path,) = of_queue(result, 0, name)
        assert contents([path]) == sent
        (interface,) = [block for block in read_blocks(path) if block.type == 1]
        assert interface.options["if_name"] == name
        assert statistics(path)["isb_usrdeliv"] == len(sent)
    told = {interface["name"]: interface for interface in result.report["interfaces"]}
    assert [told[name]["queues"][0]["written"] for name in ("rx0", "rx1")] == [400, 300]


def test_two_interfaces_share_one_pipe_and_one_count(two_interfaces, record):
    reader, writer = os.pipe()
    recorder = record(
        "--count", "100", lab=two_interfaces, interfaces=["rx1", "rx0"], output="-",
        preexec=lambda: os.dup2(writer, 1),
    )  # fmt: skip
    os.close(writer)
    # Packets of both are there before the last that is wanted.
    send_from(two_interfaces, "tx1", [numbered_frame(60, number) for number in range(40)])
    send_frames(two_interfaces, [numbered_frame(61, number) for number in range(200)])
    assert recorder.wait().returncode == 0
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    names = [b.options["if_name"] for b in read_blocks(io.BytesIO(data)) if b.type == 1]
    assert names == ["rx1", "rx0"]
    found = list(read_packets(io.BytesIO(data)))
    assert len(found) == 100
    for interface_id, length in enumerate((60, 61)):
        mine = [packet for packet in found if packet.interface_id == interface_id]
        assert {len(packet.data) for packet in mine} == {length}
        assert [frame_number(packet.data) for packet in mine] == list(range(len(mine)))
    # One id on two interfaces would say that both saw the same packet.
    assert len({packet.options["epb_packetid"] for packet in found}) == 100


def test_the_files_of_two_interfaces_are_no_larger_together_than_asked(two_interfaces, record):
    recorder = record("--json", "--max-size", "50kB", lab=two_interfaces, interfaces=["rx0", "rx1"])
    send_frames(two_interfaces, mixed_frames(50))
    send_from(two_interfaces, "tx1", mixed_frames(300))
    result = recorder.wait()
    assert check_books(result)["written"] > 50
    assert 48_000 < sum(path.stat().st_size for path in result.files) <= 50_000


# --- namespaces and queues


def test_an_interface_in_another_namespace_is_recorded_from_here(make_lab, record):
    """Both namespaces have an rx0; the one that is named is meant."""
    here, there = make_lab(), make_lab()
    recorder = record("--json", "--netns", there.rx_ns, lab=here)
    assert in_netns(here.rx_ns, attached_program, here.rx_ifindex) is None
    assert in_netns(there.rx_ns, attached_program, there.rx_ifindex) is not None
    sent = list(mixed_frames(200))
    send_frames(here, sent[:50])
    send_frames(there, sent)
    result = recorder.stop()
    assert check_books(result)["seen"] == 200
    assert contents(result.files) == sent
    assert in_netns(there.rx_ns, attached_program, there.rx_ifindex) is None


def test_a_namespace_may_be_named_by_its_path(make_lab, record):
    here, there = make_lab(), make_lab()
    recorder = record("--json", "--netns", f"/run/netns/{there.rx_ns}", lab=here)
    send_frames(there, [numbered_frame(60, 1)])
    assert numbers(recorder.stop().files) == [1]


def test_packets_of_queues_that_are_not_asked_for_stay_with_the_kernel(make_lab, record):
    lab = make_lab(queues=4)
    recorder = record("--json", "--queues", "1,3", lab=lab)
    assert "2 of 4" in recorder.stderr
    for queue in range(4):
        send_frames(lab, [numbered_frame(60, queue << 32 | n) for n in range(50)], queue)
    result = recorder.stop()
    assert [len(packets(of_queue(result, queue))) for queue in range(4)] == [0, 50, 0, 50]
    total = check_books(result)
    assert (total["seen"], total["passed"], total["written"]) == (200, 100, 100)
    (interface,) = result.report["interfaces"]
    assert interface["uncovered_passed"] == 100
    assert [row["queue"] for row in interface["queues"]] == [1, 3]


# --- traffic of all kinds


def ethernet_frames(longest: int) -> list[bytes]:
    """Ethernet packets of other projects' captures, of all files of moderate size."""
    entries = [
        entry
        for entry in read_manifest()
        if entry["linktypes"] == [1] and entry["tcpdump_ok"] and entry["packets"] < 500
    ]
    frames: list[bytes] = []
    files = 0
    for entry in entries[::3]:
        mine = [packet.data for packet in read_packets(capture_path(entry["file"]))]
        mine = [data for data in mine if 14 <= len(data) <= longest]
        files += bool(mine)
        frames += mine
    assert files > 50
    return frames


@pytest.mark.parametrize("attach", ["native", "generic"])
def test_packets_of_real_networks_are_recorded_byte_for_byte_and_in_order(make_lab, record, attach):
    lab = make_lab(mtu=9000)
    sent = ethernet_frames(longest_frame(lab))
    recorder = record("--json", "--attach", attach, lab=lab)
    wire = Wire(lab)
    wire.send(sent)
    assert wire.arrived() == len(sent)
    result = recorder.stop()
    assert check_books(result)["written"] == len(sent)
    assert contents(result.files) == sent


def test_the_live_generator_arrives_at_its_full_rate(lab, record):
    count = 131_072  # what the ring holds: nothing depends on when the worker runs
    recorder = record("--json", "--umem-size", "256MiB", "--format", "pcap")
    wire = Wire(lab)
    wire.blast(count)
    arrived = wire.arrived()
    result = recorder.stop()
    assert check_books(result)["written"] == arrived
    recorded = packets(result.files)
    numbers = [frame_number(packet.data) for packet in recorded]
    assert numbers == sorted(set(numbers)) and numbers[-1] < count
    # About two million a second on a core that is idle otherwise.
    seconds = (recorded[-1].ts_ns - recorded[0].ts_ns) / 1e9
    assert count / seconds > 200_000
