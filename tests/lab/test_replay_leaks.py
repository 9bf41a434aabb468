"""Millions of packets and hundreds of loops: no descriptor and no frame goes astray.

A descriptor that is lost once a loop shows after as many loops as the ring has entries, a
frame after as many as the memory has: the rings and memories here are small.
"""

from __future__ import annotations

import os

import pytest
from packet_builders import packet_set
from replayer import Replay, pcap_file

from xdpcap import net
from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import mixed_frames, numbered_frame
from xdpcap.options.replay import ReplayOptions
from xdpcap.packets.packet_set import PacketSet
from xdpcap.replay import transmitter
from xdpcap.replay.attachment import TxAttachment
from xdpcap.replay.plan import divide
from xdpcap.replay.transmitter import Transmitter

TOP_SPEED = "--top-speed"


# -- the command ------------------------------------------------------------------------------


# Memory of 32 frames and a ring of 16 descriptors.
LITTLE = ["--umem-size", "64k", "--ring-size", "16"]


@pytest.mark.parametrize(
    ("frames", "loops", "room"),
    [
        # All fit the memory: laid out once and posted again and again.
        ([numbered_frame(60, n) for n in range(3000)], 700, []),
        # Copied packet by packet, one to five frames each.
        ([numbered_frame(60 + n * 97 % 8955, n) for n in range(300)], 500, LITTLE),
    ],
    ids=["laid out", "copied"],
)
def test_hundreds_of_loops_send_exactly_that_many_packets(make_lab, tmp_path, frames, loops, room):
    lab = make_lab(mtu=9000)
    file = pcap_file(tmp_path / "in.pcap", frames)
    sent = Replay(lab, [file, TOP_SPEED, "--quiet", "--loop", str(loops), *room]).wait()
    assert sent.returncode == 0, sent.stderr
    report, count = sent.report, len(frames) * loops
    assert (report["sent"], report["loops"]) == (count, loops)
    assert report["bytes"] == sum(map(len, frames)) * loops
    assert report["tx_errors"]["tx_invalid_descs"] == 0
    assert lab.statistics() == {
        "tx_packets": count,
        "tx_dropped": 0,
        "rx_packets": count,
        "rx_dropped": 0,
    }


# -- the sending loop -------------------------------------------------------------------------


def attach(queues: tuple[int, ...] = (0,), **sizes: int) -> TxAttachment:
    """Sockets on tx0 of this namespace."""
    options = ReplayOptions(files=("none",), interface="tx0", **sizes)
    return TxAttachment(options, net.get_link("tx0"), queues)


def check_idle(sender: Transmitter, packets: int) -> None:
    """Nothing is under way, and every frame is where it belongs."""
    submitted, _, completed, *_ = sender.counters
    assert submitted == completed == packets
    assert sender.frames_out == 0
    umem = sender.xsk.umem
    # What is laid out takes no frame from the pool.
    assert umem.free_count == umem.frame_count


def send(sender: Transmitter, packets: PacketSet, passes: int, *, place: bool) -> int:
    """Send a set so many times; how many packets that is."""
    (order,) = divide(packets, 1)
    assert sender.load(packets, order, place=place) == place
    for number in range(passes):
        if number:
            sender.rewind()
        assert sender.run(0) == transmitter.DONE
    return passes * len(packets)


def test_after_every_loop_all_frames_are_back_copied_or_laid_out(make_lab):
    """Two sets in turn: one is laid out, the other copied, as when both kinds of job meet."""
    lab = make_lab(mtu=9000)
    small = packet_set(*(numbered_frame(60, n) for n in range(50)))
    large = packet_set(*(numbered_frame(60 + n * 97 % 8955, n) for n in range(200)))

    def body() -> int:
        attachment = attach(umem_size_bytes=64 * 2048, ring_size=32)
        sender = Transmitter(attachment.xsks[0], batch=16)
        sent = 0
        try:
            for number in range(400):
                place = number % 2 == 0
                sent += send(sender, small if place else large, 5, place=place)
                assert sender.drain() == transmitter.DONE
                check_idle(sender, sent)
        finally:
            sender.close()
            attachment.close()
        return sent

    sent = in_netns(lab.tx_ns, body)
    assert sent == 200 * 5 * (50 + 200)
    assert lab.statistics()["rx_packets"] == sent


def test_sets_that_follow_each_other_without_a_pause_lose_no_frame(lab):
    """As while streaming: the next set is taken while frames of the last are on their way."""
    sets = [packet_set(*mixed_frames(100, seed=seed)) for seed in range(8)]

    def body() -> int:
        attachment = attach(umem_size_bytes=32 * 2048, ring_size=8)
        sender = Transmitter(attachment.xsks[0], batch=64)
        try:
            sent = sum(send(sender, sets[n % 8], 1, place=False) for n in range(2000))
            assert sender.drain() == transmitter.DONE
            check_idle(sender, sent)
        finally:
            sender.close()
            attachment.close()
        return sent

    assert in_netns(lab.tx_ns, body) == lab.statistics()["rx_packets"] == 200_000


def test_a_set_that_is_stopped_half_way_leaves_no_frame_behind(lab):
    """A stop, a limit or a deadline: what was handed over comes back, the rest was never out."""
    packets = packet_set(*(numbered_frame(60, n) for n in range(1000)))

    def body() -> int:
        attachment = attach(umem_size_bytes=32 * 2048, ring_size=32)
        try:
            sent = 0
            for number in range(300):
                limit = transmitter.SendLimit(1 + number * 7 % 999)
                sender = Transmitter(attachment.xsks[0], limit=limit)
                (order,) = divide(packets, 1)
                sender.load(packets, order)
                assert sender.run(0) == transmitter.LIMIT
                assert sender.drain() == transmitter.DONE
                check_idle(sender, 1 + number * 7 % 999)
                sent += sender.counters[2]
                sender.close()
        finally:
            attachment.close()
        return sent

    assert in_netns(lab.tx_ns, body) == lab.statistics()["rx_packets"]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def mapped_bytes() -> int:
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmSize:"))
    return int(line.split()[1]) * 1024


def test_attachments_made_and_closed_leave_no_descriptor_and_no_memory(make_lab):
    lab = make_lab(queues=2)

    def once() -> None:
        attachment = attach((0, 1), umem_size_bytes=1 << 22, attach="none")
        senders = [Transmitter(xsk) for xsk in attachment.xsks.values()]
        packets = packet_set(*(numbered_frame(60, n) for n in range(64)))
        for sender, order in zip(senders, divide(packets, 2), strict=True):
            sender.load(packets, order)
            assert sender.run(0) == transmitter.DONE
            assert sender.drain() == transmitter.DONE
            sender.close()
        attachment.close()

    def body() -> tuple[int, int]:
        for _ in range(5):
            once()
        before = descriptors(), mapped_bytes()
        for _ in range(50):
            once()
        return descriptors() - before[0], mapped_bytes() - before[1]

    leaked, grown = in_netns(lab.tx_ns, body)
    assert leaked == 0
    # One leaked memory of a queue is 4 MiB.
    assert grown < 4 << 20
