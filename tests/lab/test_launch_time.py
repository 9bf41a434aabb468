"""Packets that carry a launch time, on a pair that keeps none: their form, and what is said.

veth has no launch time and sends at once, but in copy mode the kernel reads the metadata of
each packet as it does for a NIC (net/xdp/xsk.c, xsk_skb_metadata()), and takes no packet whose
metadata are not in order. That the time is kept can be seen on hardware only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from capture_files import contents
from kernel_requirements import since
from replayer import Replay, pcap_file

from xdpcap import net
from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.errors import UsageError
from xdpcap.options.replay import ReplayOptions
from xdpcap.packets.packet_set import PacketSet
from xdpcap.programs.program import attached_program
from xdpcap.replay import attachment, launch_time
from xdpcap.replay.attachment import TxAttachment
from xdpcap.replay.plan import Pacer, divide
from xdpcap.replay.transmitter import DONE, Transmitter
from xdpcap.rings.tx_metadata import MetadataUmem, MetadataXsk
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk

pytestmark = since((6, 15), "launch times")

UMEM_BYTES = 1 << 20
RING = 256


@dataclass
class Outcome:
    """What a `Transmitter` with launch times left behind."""

    reasons: list[int]
    counters: tuple[int, ...]
    frames_out: int
    free_frames: int
    statistics: dict[str, int]
    lateness: list[tuple[int, int]]
    ended_early_ns: int


def packet_set(frames: list[bytes]) -> PacketSet:
    packets = PacketSet()
    for frame in frames:
        packets.append(frame)
    return packets


def send_timed(
    frames: list[bytes],
    *,
    pps: float = 20_000,
    passes: int = 1,
    paced: bool = True,
    lead_ns: int = 2_000_000,
) -> Outcome:
    """Send from tx0 through a UMEM with metadata; in the sender's namespace."""
    packets = packet_set(frames)
    plan = Pacer("pps", pps).plan(packets) if paced else None
    pass_ns = int(len(frames) / pps * 1e9)
    with (
        MetadataUmem(UMEM_BYTES, fill_size=64, completion_size=RING) as umem,
        MetadataXsk(umem, "tx0", 0, rx_size=0, tx_size=RING, multi_buffer=True) as xsk,
    ):
        sender = Transmitter(xsk, launch_clock=time.CLOCK_TAI, lead_ns=lead_ns, sleep_only=True)
        # There is room for all of them, but each needs a time of its own in every pass.
        assert sender.load(packets, divide(packets, 1)[0], plan, place=True) is False
        begun_ns = time.monotonic_ns() + 10_000_000 + lead_ns
        reasons = []
        for number in range(passes):
            if number:
                sender.rewind()
            reasons.append(sender.run(begun_ns + number * pass_ns))
        due_ns = begun_ns + passes * pass_ns
        ended_early_ns = due_ns - time.monotonic_ns()
        reasons.append(sender.drain())
        outcome = Outcome(
            reasons,
            sender.counters,
            sender.frames_out,
            umem.free_count,
            xsk.statistics(),
            sender.lateness,
            ended_early_ns,
        )
        sender.close()
        return outcome


def assert_complete(outcome: Outcome, frames: list[bytes], passes: int = 1) -> None:
    assert set(outcome.reasons) == {DONE}
    submitted, size, completed, _, _ = outcome.counters
    assert submitted == completed == passes * len(frames)
    assert size == passes * sum(map(len, frames))
    assert outcome.frames_out == 0
    assert outcome.free_frames == UMEM_BYTES // 2048
    assert outcome.statistics["tx_invalid_descs"] == 0


@pytest.mark.parametrize("length", [60, 1514])
def test_every_byte_arrives_in_order_with_a_launch_time_on_each_packet(lab, record, length):
    frames = [numbered_frame(length, number) for number in range(2000)]
    recorder = record("--json")
    outcome = in_netns(lab.tx_ns, send_timed, frames)
    assert_complete(outcome, frames)
    assert contents(recorder.stop().files) == frames


def test_packets_of_several_frames_arrive_whole_in_every_loop(make_lab, record):
    # A frame of 2048 bytes carries 2024: on both sides of what one, two and more hold.
    lab = make_lab(mtu=9000)
    lengths = [60, 2023, 2024, 2025, 2048, 4047, 4048, 4049, 6073, 8192, 9014]
    frames = [numbered_frame(length, n) for n, length in enumerate(lengths * 30)]
    recorder = record("--json", lab=lab)
    outcome = in_netns(lab.tx_ns, send_timed, frames, passes=4)
    assert_complete(outcome, frames, passes=4)
    assert contents(recorder.stop().files) == frames * 4


def test_many_more_loops_than_there_are_frames_all_arrive(lab, record):
    frames = [numbered_frame(60, number) for number in range(100)]
    recorder = record("--json")
    outcome = in_netns(lab.tx_ns, send_timed, frames, passes=50, pps=100_000)
    assert_complete(outcome, frames, passes=50)
    assert contents(recorder.stop().files) == frames * 50


def test_packets_are_handed_over_before_they_are_due_and_then_are_not_late(lab):
    frames = [numbered_frame(60, number) for number in range(200)]
    outcome = in_netns(lab.tx_ns, send_timed, frames, pps=1000, lead_ns=100_000_000)
    assert_complete(outcome, frames)
    # The last one was due a gap before the end of the pass; a busy machine costs some.
    assert outcome.ended_early_ns > 50_000_000
    assert outcome.lateness[0][0] == 0
    assert outcome.lateness[0][1] > len(frames) // 2


def test_without_a_pace_the_metadata_are_left_out_and_everything_arrives(lab, record):
    frames = [numbered_frame(1514, number) for number in range(1000)]
    recorder = record("--json")
    outcome = in_netns(lab.tx_ns, send_timed, frames, paced=False)
    assert_complete(outcome, frames)
    assert outcome.lateness == []
    assert contents(recorder.stop().files) == frames


def test_the_sockets_own_way_of_sending_leaves_the_room_free_too(make_lab, record):
    lab = make_lab(mtu=9000)
    frames = [numbered_frame(60 + 97 * number, number) for number in range(90)]

    def send() -> tuple[int, int]:
        with (
            MetadataUmem(UMEM_BYTES, fill_size=64, completion_size=RING) as umem,
            MetadataXsk(umem, "tx0", 0, rx_size=0, tx_size=RING, multi_buffer=True) as xsk,
        ):
            return xsk.send(frames), xsk.statistics()["tx_invalid_descs"]

    recorder = record("--json", lab=lab)
    assert in_netns(lab.tx_ns, send) == (len(frames), 0)
    assert contents(recorder.stop().files) == frames


def test_launch_times_need_a_umem_with_room_and_that_sends_alone(lab):
    def refused() -> None:
        with (
            Umem(UMEM_BYTES) as umem,
            Xsk(umem, "tx0", 0, rx_size=0, tx_size=RING) as xsk,
            pytest.raises(ValueError, match="MetadataUmem"),
        ):
            Transmitter(xsk, launch_clock=time.CLOCK_TAI)
        with MetadataUmem(UMEM_BYTES) as umem, pytest.raises(UsageError, match="TX ring alone"):
            MetadataXsk(umem, "tx0", 0, rx_size=RING, tx_size=RING)
        with MetadataUmem(UMEM_BYTES) as umem, pytest.raises(TypeError, match="MetadataUmem"):
            Xsk(umem, "tx0", 0, rx_size=0, tx_size=RING)
        with Umem(UMEM_BYTES) as umem, pytest.raises(TypeError, match="MetadataUmem"):
            MetadataXsk(umem, "tx0", 0, rx_size=0, tx_size=RING)

    in_netns(lab.tx_ns, refused)


# -- the command ------------------------------------------------------------------------------


def launch_line(stderr: str) -> str:
    """What the start-up report says after "launch", over as many lines as it takes."""
    text = " ".join(stderr.split())
    return text[text.index(" launch ") + len(" launch ") :]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "not handed to the NIC: the driver veth does not offer it;"),
        (
            ("--zero-copy", "off"),
            "not handed to the NIC: it needs zero-copy and --zero-copy is off",
        ),
        (("--attach", "generic"), "not handed to the NIC: it needs a native program and --attach"),
    ],
)
def test_a_driver_without_launch_times_is_named_and_everything_arrives(
    lab, record, tmp_path, options, reason
):
    frames = [numbered_frame(60, number) for number in range(500)]
    file = pcap_file(tmp_path / "in.pcap", frames)
    recorder = record("--json")
    sent = Replay(lab, [file, "--launch-time", "--pps", "5k", "--loop", "2", *options]).wait()
    assert sent.returncode == 0, sent.stderr
    assert launch_line(sent.stderr).startswith(reason)
    assert sent.report["sent"] == 1000
    assert contents(recorder.stop().files) == frames * 2


def test_what_is_refused_at_the_last_moment_leaves_sockets_as_without_the_option(lab, monkeypatch):
    # As if veth offered it: what then fails is the bind, for veth has no zero-copy.
    class Clock:
        path, id, closed = "/dev/ptp0", time.CLOCK_TAI, False

        def __init__(self, interface: str) -> None:
            assert interface == "tx0"

        def close(self) -> None:
            Clock.closed = True

    monkeypatch.setattr(launch_time, "lacking", lambda *_: None)
    monkeypatch.setattr(attachment, "HardwareClock", Clock)
    options = ReplayOptions(files=("a.pcap",), interface="tx0", launch_time=True)

    def attach() -> None:
        link = net.get_link("tx0")
        attachment = TxAttachment(options, link, (0,))
        try:
            assert attachment.launch_time == launch_time.withheld_text(
                "bind(tx0 queue 0, ZEROCOPY): EOPNOTSUPP (Operation not supported)"
            )
            assert attachment.clock is None and Clock.closed
            assert attachment.attach_mode == "none"
            assert attached_program(link.index) is None
            assert type(attachment.xsks[0]) is Xsk
            assert attachment.xsks[0].send([numbered_frame(60, 1)]) == 1
        finally:
            attachment.close()

    in_netns(lab.tx_ns, attach)
