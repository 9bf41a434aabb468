"""`xdpcap record --mirror`: what arrives is in the files and with the host, both whole."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator

import pytest
from capture_files import (
    blasted_numbers,
    contents,
    flushed,
    go_on,
    numbers,
    of_queue,
    packets,
    parts,
    stand_still,
)
from kernel_requirements import MULTI_BUFFER
from ledger_checks import Wire, check_books
from leftovers import attached
from patched_command import EACH_MIRROR_BUILD, MIRROR_BUILDS
from tcpdump import Tcpdump

from xdpcap.bench.lab import Lab, in_netns
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.savefile.reader import read_blocks

PORT = 9000


@pytest.fixture(params=EACH_MIRROR_BUILD)
def mirror(request, record):
    """`mirror("--json", ...)`: a recorder in mirror mode, with each of the builds."""

    def start(*arguments, **options):
        return record("--mirror", *arguments, env=MIRROR_BUILDS[request.param], **options)

    start.build = request.param
    return start


def test_every_packet_is_in_the_file_and_reaches_the_host(lab, mirror, tmp_path):
    sent = [numbered_frame(60 + n % 1455, n) for n in range(3000)]
    with Tcpdump(lab.rx_ns, "rx0", tmp_path / "host.pcap") as tcpdump:
        recorder = mirror("--json")
        assert "a queue" in recorder.stderr and mirror.build in recorder.stderr
        send_frames(lab, sent)
        assert tcpdump.packets_once(len(sent), sum(map(len, sent))) == sent
    result = recorder.stop()
    assert contents(result.files) == sent
    total = check_books(result)
    assert total["mirrored"] == total["written"] == len(sent)
    assert total["redirected"] == total["passed"] == total["ring_lost"] == 0


def test_the_start_up_report_says_that_packets_are_copied_and_stay_with_the_host(lab, mirror):
    result = mirror("--json").stop()
    assert "mirror: every packet is copied and stays with the host" in result.stderr
    assert not result.total["zero_copy"]


@MULTI_BUFFER
def test_a_packet_longer_than_a_page_is_whole(make_lab, mirror, tmp_path):
    lab = make_lab(mtu=9000, generic=mirror.build == "perf rings")
    sent = [numbered_frame(size, size) for size in (60, 1514, 1515, 4096, 4097, 9014)]
    arguments = ("--attach", "generic") if lab.generic else ()
    recorder = mirror("--json", *arguments, lab=lab)
    send_frames(lab, sent)
    result = recorder.stop()
    assert contents(result.files) == sent
    check_books(result)


def test_no_more_than_the_snapshot_length_is_copied_and_the_wire_length_is_told(lab, mirror):
    recorder = mirror("--json", "--snaplen", "100")
    sent = [numbered_frame(size, size) for size in (60, 99, 100, 101, 1514)]
    send_frames(lab, sent)
    got = packets(recorder.stop().files)
    assert [packet.data for packet in got] == [frame[:100] for frame in sent]
    assert [packet.origlen for packet in got] == [len(frame) for frame in sent]


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """Frames are sent, and so received, on one CPU: each counts its own losses."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_what_the_ring_has_no_room_for_is_counted_and_told_at_its_place(lab, mirror, one_cpu):
    recorder = mirror("--json", "--mirror-size", "64KiB")
    wire = Wire(lab)
    wire.blast(100)
    recorder.wait_for(lambda: recorder_has_drained(recorder))
    stand_still(recorder)
    wire.send(numbered_frame(60, 1000 + n) for n in range(2000))
    assert wire.arrived() == 2100
    go_on(recorder)
    recorder.wait_for(lambda: recorder_has_drained(recorder))
    wire.send(numbered_frame(60, 5000 + n) for n in range(10))
    wire.arrived()
    result = recorder.stop()
    total = check_books(result)
    assert total["seen"] == 2110
    assert total["ring_lost"] > 0 and total["mirrored"] == 2110 - total["ring_lost"]
    # What was kept is the beginning of what came, and the next record tells of the rest.
    kept = numbers(result.files)
    assert kept[-10:] == list(range(5000, 5010))
    blocks = [block for block in read_blocks(result.files[0]) if "data" in block.fields]
    told = [block.options.get("epb_dropcount", 0) for block in blocks]
    assert told[-10] == sum(told) == total["ring_lost"]


def recorder_has_drained(recorder) -> bool:
    """Whether everything copied so far is in the file."""
    return sum(len(flushed(path)) for path in parts(recorder)) >= 100


def test_packets_at_full_rate_are_each_there_once(lab, mirror):
    wire = Wire(lab)
    recorder = mirror("--json")
    wire.blast(300_000, 60)
    arrived = wire.arrived()
    result = recorder.stop()
    total = check_books(result)
    assert total["seen"] == arrived
    assert total["mirrored"] + total["ring_lost"] == arrived
    (path,) = result.files
    found = blasted_numbers(path, 60)
    assert found == sorted(found) and len(set(found)) == len(found) == total["written"]


def test_each_queue_has_its_own_file_with_its_own_packets(make_lab, mirror):
    lab = make_lab(queues=3)
    recorder = mirror("--json", lab=lab)
    for queue in range(3):
        send_frames(lab, [numbered_frame(60, 100 * queue + n) for n in range(50)], queue)
    result = recorder.stop()
    check_books(result)
    for queue in range(3):
        assert numbers(of_queue(result, queue)) == list(range(100 * queue, 100 * queue + 50))


def test_queues_that_were_not_asked_for_are_left_alone(make_lab, mirror):
    lab = make_lab(queues=2)
    recorder = mirror("--json", "--queues", "1", lab=lab)
    for queue in range(2):
        send_frames(lab, [numbered_frame(60, n) for n in range(20)], queue)
    result = recorder.stop()
    total = check_books(result)
    assert (total["mirrored"], total["passed"]) == (20, 20)


def test_a_generic_program_mirrors_as_well(lab, mirror):
    recorder = mirror("--json", "--attach", "generic")
    sent = [numbered_frame(60 + n, n) for n in range(1000)]
    send_frames(lab, sent)
    result = recorder.stop()
    assert contents(result.files) == sent
    check_books(result)


def test_a_killed_mirror_leaves_nothing_and_took_nothing_from_the_host(lab, mirror, tmp_path):
    sent = [numbered_frame(60, n) for n in range(500)]
    with Tcpdump(lab.rx_ns, "rx0", tmp_path / "host.pcap") as tcpdump:
        recorder = mirror()
        send_frames(lab, sent[:250])
        recorder.kill()
        recorder.wait_for(lambda: attached(lab) is None)
        send_frames(lab, sent[250:])
        assert tcpdump.packets_once(len(sent), sum(map(len, sent))) == sent


def test_limits_and_rotation_are_those_of_any_recording(lab, mirror):
    recorder = mirror("--json", "--rotate-packets", "100", "-c", "350")
    send_frames(lab, [numbered_frame(60, n) for n in range(400)])
    result = recorder.wait()
    assert [len(packets([path])) for path in result.files] == [100, 100, 100, 50]
    assert numbers(result.files) == list(range(350))
    check_books(result)


def test_the_stream_on_standard_output_has_every_packet(lab, mirror, tmp_path):
    sent = [numbered_frame(60, n) for n in range(200)]
    recorder = mirror("-c", "200", output="-")
    send_frames(lab, sent)
    result = recorder.wait()
    path = tmp_path / "out.pcapng"
    path.write_bytes(result.stdout)
    assert contents([path]) == sent


# --- a host that goes on working


@pytest.fixture
def addressed(lab) -> Iterator[Lab]:
    """The lab with an IPv4 address at each end, and ARP."""
    for name, namespace, address in (
        ("rx0", lab.rx_ns, "10.77.0.1/24"),
        ("tx0", lab.tx_ns, "10.77.0.2/24"),
    ):
        for words in (["link", "set", name, "arp", "on"], ["addr", "add", address, "dev", name]):
            subprocess.run(["ip", "-n", namespace, *words], check=True)
    yield lab


def serve(listener: socket.socket, size: int, answer: bytes, got: list[bytes]) -> None:
    """Take `size` bytes from one client, then send `answer`."""
    connection, _ = listener.accept()
    with connection:
        received = b""
        while len(received) < size:
            received += connection.recv(1 << 20)
        got.append(received)
        connection.sendall(answer)


def test_a_tcp_transfer_through_a_mirrored_interface_and_the_file_of_it_are_both_whole(
    addressed, mirror
):
    lab = addressed
    numbers_of = random.Random(7)
    upload, download = numbers_of.randbytes(3_000_000), numbers_of.randbytes(1_000_000)
    recorder = mirror("--json")
    listener = in_netns(lab.rx_ns, socket.create_server, ("10.77.0.1", PORT))
    got: list[bytes] = []
    thread = threading.Thread(target=serve, args=(listener, len(upload), download, got))
    thread.start()
    with in_netns(lab.tx_ns, socket.create_connection, ("10.77.0.1", PORT), 10) as client:
        client.sendall(upload)
        answer = b""
        while len(answer) < len(download):
            answer += client.recv(1 << 20)
    thread.join(10)
    listener.close()
    assert got == [upload]
    assert hashlib.sha256(answer).digest() == hashlib.sha256(download).digest()
    result = recorder.stop()
    assert check_books(result)["ring_lost"] == 0
    assert stream(contents(result.files)) == upload


def stream(frames: list[bytes]) -> bytes:
    """What TCP segments to PORT carry, put together by their sequence numbers."""
    first, pieces = None, {}
    for frame in frames:
        if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
            continue
        total = struct.unpack_from("!H", frame, 16)[0]
        segment = frame[34 : 14 + total]
        _, port, sequence = struct.unpack_from("!HHI", segment)
        if port != PORT:
            continue
        if segment[13] & 0x02:  # SYN
            first = sequence + 1
        elif payload := segment[segment[12] // 16 * 4 :]:
            pieces[sequence] = max(pieces.get(sequence, b""), payload, key=len)
    assert first is not None
    whole = bytearray()
    for sequence in sorted(pieces, key=lambda number: (number - first) % 2**32):
        at = (sequence - first) % 2**32
        assert at <= len(whole), "a segment is missing"
        whole[at : at + len(pieces[sequence])] = pieces[sequence]
    return bytes(whole)


# --- samples


@pytest.mark.parametrize("mode", [(), ("--mirror",)], ids=["redirect", "mirror"])
def test_a_sample_by_count_is_every_nth_packet(lab, record, mode):
    recorder = record("--json", *mode, "--sample", "10")
    send_frames(lab, [numbered_frame(60, n) for n in range(1000)])
    result = recorder.stop()
    assert numbers(result.files) == list(range(0, 1000, 10))
    total = check_books(result)
    assert (total["seen"], total["sampled_out"], total["written"]) == (1000, 900, 100)


@pytest.mark.parametrize("mode", [(), ("--mirror",)], ids=["redirect", "mirror"])
def test_a_sample_by_flow_has_all_packets_of_a_flow_in_both_directions_or_none(lab, record, mode):
    recorder = record("--json", *mode, "--sample", "4", "--sample-by", "flow")
    ways = [(port, there) for port in range(400) for there in (True, False)]
    sent = [flow_frame(port, there) for _ in range(3) for port, there in ways]
    send_frames(lab, sent)
    result = recorder.stop()
    kept = contents(result.files)
    flows = {port_of(frame) for frame in kept}
    assert kept == [frame for frame in sent if port_of(frame) in flows]
    assert 60 < len(flows) < 140  # about one in four of 400
    assert check_books(result)["sampled_out"] == len(sent) - len(kept)


def flow_frame(number: int, there: bool) -> bytes:
    """A UDP packet between 10.0.0.1, port 53, and 10.0.0.2, port 2000 + number."""
    ends = [(b"\x0a\x00\x00\x01", 53), (b"\x0a\x00\x00\x02", 2000 + number)]
    (source, sport), (target, dport) = ends if there else reversed(ends)
    frame = bytearray(numbered_frame(60, 1))
    frame[26:30], frame[30:34] = source, target
    frame[34:38] = struct.pack("!HH", sport, dport)
    return bytes(frame)


def port_of(frame: bytes) -> int:
    """The port that is not 53."""
    return max(struct.unpack_from("!HH", frame, 34))


def test_what_a_sample_leaves_out_stays_with_the_host(lab, record, tmp_path):
    sent = [numbered_frame(60, n) for n in range(100)]
    with Tcpdump(lab.rx_ns, "rx0", tmp_path / "host.pcap") as tcpdump:
        recorder = record("--json", "--sample", "4")
        send_frames(lab, sent)
        left = [frame for n, frame in enumerate(sent) if n % 4]
        assert tcpdump.packets_once(len(left), sum(map(len, left))) == left
    assert contents(recorder.stop().files) == sent[::4]
