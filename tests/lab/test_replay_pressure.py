"""A replay that is held up at every step: rings of one descriptor, a receiver that is slower.

What is full is tried again, and nothing is lost, doubled or moved by it.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator

import pytest
from capture_files import contents, go_on, of_queue, run, stand_still
from packet_builders import ip_packet
from replayer import Replay, pcap_file
from tcpdump import Tcpdump

from xdpcap import net
from xdpcap.bench.lab import Lab, in_netns
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.host import kernel
from xdpcap.options.replay import ReplayOptions
from xdpcap.replay.attachment import TxAttachment

TOP_SPEED = "--top-speed"
FLOWS = 64


def in_flows(count: int, most: int = 60) -> list[bytes]:
    """Numbered packets of 64 flows in turn, of 58 to `most` bytes."""
    made = []
    for number in range(count):
        head = ip_packet("192.0.2.1", "198.51.100.2", ports=(1024 + number % FLOWS, 80))
        size = 58 + number * 7919 % (most - 57)
        made.append((head + number.to_bytes(4, "big")).ljust(size, b"\xa5"))
    return made


def by_flow(frames: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """The frames of each flow, in order, by source port."""
    flows = defaultdict(list)
    for frame in frames:
        flows[frame[34:36]].append(frame)
    return flows


# -- little room ------------------------------------------------------------------------------

SMALLEST = ["--ring-size", "1", "--umem-size", "4k"]


@pytest.mark.parametrize("batch", ["1", "64"])
def test_a_ring_of_one_descriptor_on_each_of_several_queues_loses_and_moves_nothing(
    make_lab, record, tmp_path, batch
):
    """The ring is full after each packet: every other attempt to hand over one fails."""
    lab = make_lab(queues=4)
    frames = in_flows(20_000)
    file = pcap_file(tmp_path / "in.pcap", frames)
    recorder = record("--json", lab=lab)
    arguments = [file, TOP_SPEED, *SMALLEST, "--queues", "0-3", "--batch", batch]
    sent = Replay(lab, arguments).wait()
    assert sent.returncode == 0, sent.stderr
    result = recorder.stop()
    arrived = [contents(of_queue(result, queue)) for queue in range(4)]
    assert [row["sent"] for row in sent.report["queues"]] == [len(row) for row in arrived]
    assert all(row["kicks"] >= row["sent"] > 0 for row in sent.report["queues"])
    # Each flow arrives on one queue, in its order, and exactly once.
    assert by_flow(frame for row in arrived for frame in row) == by_flow(frames)
    assert sum(len(by_flow(row)) for row in arrived) == FLOWS


@pytest.mark.parametrize("ring", ["8", "16"])
def test_packets_of_several_frames_pass_a_ring_that_holds_hardly_more_than_one(
    make_lab, tmp_path, ring
):
    """Up to five descriptors a packet, as tcpdump sees them."""
    lab = make_lab(queues=2, mtu=9000)
    frames = in_flows(4000, most=9014)
    file = pcap_file(tmp_path / "in.pcap", frames)
    room = ["--ring-size", ring, "--umem-size", "32k"]
    with Tcpdump(lab.rx_ns, "rx0", tmp_path / "out.pcap") as tcpdump:
        sent = Replay(lab, [file, TOP_SPEED, *room, "--queues", "0-1"]).wait()
        assert sent.returncode == 0, sent.stderr
        arrived = tcpdump.packets_once(len(frames), sum(map(len, frames)))
    assert sent.report["sent"] == len(arrived) == len(frames)
    assert by_flow(arrived) == by_flow(frames)


def test_a_ring_that_can_not_hold_the_longest_packet_is_refused(make_lab, tmp_path):
    lab = make_lab(mtu=9000)
    file = pcap_file(tmp_path / "in.pcap", [numbered_frame(9014, 1)])
    sent = Replay(lab, [file, TOP_SPEED, "--ring-size", "4"]).wait()
    assert sent.returncode == 2 and sent.stdout == ""
    assert "5 descriptors; use 8 or more" in sent.stderr and sent.stderr.count("\n") == 1


def test_what_would_take_more_frames_than_the_kernel_joins_is_left_out(make_lab, record, tmp_path):
    """The kernel completes such a packet and sends nothing: it must not count as sent."""
    lab = make_lab(mtu=65535)
    most = 17 * 2048 - 4
    frames = [numbered_frame(size, n) for n, size in enumerate([60, most, most + 1, 65549, 61])]
    file = pcap_file(tmp_path / "in.pcap", frames)
    recorder = record("--json", lab=lab)
    small = Replay(lab, [file, TOP_SPEED]).wait().report
    large = Replay(lab, [file, TOP_SPEED, "--frame-size", "4096"]).wait().report
    assert (small["sent"], small["skipped_numbers"]["too_long"]) == (3, [3, 4])
    assert (large["sent"], large["skipped"]["too_long"]) == (5, 0)
    for report in (small, large):
        assert report["tx_errors"]["tx_invalid_descs"] == 0
    assert contents(recorder.stop().files) == [*frames[:2], frames[4], *frames]


# -- a slow receiver --------------------------------------------------------------------------

# From here on a full veth tells the sender to wait instead of dropping, when it has a
# queueing discipline (drivers/net/veth.c, veth_xmit()).
VETH_WAITS = (6, 16)
SO_ATTACH_FILTER = 26
DIVIDE, RETURN = 0x34, 0x06  # BPF_ALU | BPF_DIV | BPF_K, BPF_RET | BPF_K
FILTER_LENGTH = 4096  # BPF_MAXINSNS


def busy_socket(interface: str) -> socket.socket:
    """A packet socket whose filter divides thousands of times and takes nothing."""
    steps = [struct.pack("=HBBI", DIVIDE, 0, 0, 7)] * (FILTER_LENGTH - 1)
    program = ctypes.create_string_buffer(b"".join([*steps, struct.pack("=HBBI", RETURN, 0, 0, 0)]))
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    attached = struct.pack("@HP", FILTER_LENGTH, ctypes.addressof(program))
    wire.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
    wire.bind((interface, 3))  # ETH_P_ALL
    return wire


@contextlib.contextmanager
def slow_receiver(lab: Lab) -> Iterator[None]:
    """Each packet costs the receiver tens of microseconds, in a thread of the kernel's own."""
    run("tc", "-n", lab.tx_ns, "qdisc", "add", "dev", "tx0", "root", "pfifo")
    # Without a program a veth has NAPI, which can have a thread, only for GRO.
    inside = ["ip", "netns", "exec", lab.rx_ns]
    run(*inside, "ethtool", "-K", "rx0", "gro", "on")
    run(*inside, "sh", "-c", "echo 1 > /sys/class/net/rx0/threaded")
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(in_netns(lab.rx_ns, busy_socket, "rx0"))
        yield


@pytest.mark.parametrize(("length", "count"), [(60, 10_000), (1514, 4000), (9014, 2000)])
def test_a_receiver_that_is_slower_than_the_sender_loses_nothing(make_lab, tmp_path, length, count):
    """The queue between the two, or the socket's share of memory, is full most of the time.

    The kernel answers EAGAIN then, in the middle of a packet too; the replay goes on with
    what is left, and ends when the receiver has had everything.
    """
    if kernel.version() < VETH_WAITS:
        pytest.skip("a veth of this kernel drops what its receiver has no room for (6.16)")
    lab = make_lab(mtu=9000)
    frames = [numbered_frame(length, number) for number in range(count)]
    file = pcap_file(tmp_path / "in.pcap", frames)
    with slow_receiver(lab), Tcpdump(lab.rx_ns, "rx0", tmp_path / "out.pcap") as tcpdump:
        sent = Replay(lab, [file, TOP_SPEED]).wait()
        assert sent.returncode == 0, sent.stderr
        arrived = tcpdump.packets_once(count, count * length)
    assert arrived == frames
    assert sent.report["sent"] == count
    # A receiver that keeps up takes a batch of 64 a call.
    assert sent.report["queues"][0]["kicks"] > 10 * count / 64
    assert lab.statistics()["tx_dropped"] == 0


def test_what_a_receiver_that_stands_still_loses_was_sent_all_the_same(lab, record, tmp_path):
    """An XDP receiver has no way to hold up the sender: it counts what it loses."""
    frames = [numbered_frame(60, number) for number in range(5000)]
    file = pcap_file(tmp_path / "in.pcap", frames)
    recorder = record("--json", "--ring-size", "1024")
    stand_still(recorder)
    sent = Replay(lab, [file, TOP_SPEED]).wait()
    go_on(recorder)
    assert sent.returncode == 0, sent.stderr
    result = recorder.stop()
    assert sent.report["sent"] == result.total["seen"] == 5000
    arrived = contents(result.files)
    assert 0 < len(arrived) < 5000 and result.total["unaccounted"] == 0
    assert arrived == frames[: len(arrived)]


@pytest.mark.parametrize(("mtu", "several"), [(1500, False), (2026, False), (2027, True)])
def test_packets_of_several_frames_are_asked_for_only_where_one_may_come(make_lab, mtu, several):
    # Drivers that can't send them without a copy refuse zero-copy to whoever asks.
    lab = make_lab(mtu=mtu)

    def bound():
        options = ReplayOptions(files=("any.pcap",), interface="tx0")
        attachment = TxAttachment(options, net.get_link("tx0"), (0,))
        try:
            xsk = attachment.xsks[0]
            return xsk.multi_buffer, xsk.wake()
        finally:
            attachment.close()

    # Two tags and the header take 22 bytes of a frame of 2048.
    assert in_netns(lab.tx_ns, bound) == (several, 0)
