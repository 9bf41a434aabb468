"""What a capture file holds leaves the interface: every byte, in order, once, and no more."""

from __future__ import annotations

import gzip
import socket
import statistics
import sys
import time
from itertools import pairwise

import pytest
from capture_files import contents, of_queue, packets, run
from packet_builders import ip_packet
from replayer import SECOND_NS, Replay, pcap_file, timed_pcap
from tcpdump import Tcpdump
from timeouts import PATIENCE

from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import frame_number, mixed_frames, numbered_frame

TOP_SPEED = "--top-speed"


def numbered(count: int, length: int = 60) -> list[bytes]:
    return [numbered_frame(length, number) for number in range(count)]


def sent_and_recorded(lab, record, arguments, **options):
    """The replay's report and the packets that the far end recorded meanwhile."""
    recorder = record("--json", lab=lab)
    sent = Replay(lab, arguments, **options).wait()
    assert sent.returncode == 0, sent.stderr
    result = recorder.stop()
    assert result.total["unaccounted"] == 0
    return sent.report, packets(result.files)


# -- what arrives ---------------------------------------------------------------------------


@pytest.mark.parametrize("pace", [TOP_SPEED, "--pps=20k"])
@pytest.mark.parametrize("length", [60, 61, 1514])
def test_every_byte_arrives_in_order(lab, record, tmp_path, pace, length):
    frames = numbered(5000, length)
    file = pcap_file(tmp_path / "in.pcap", frames)
    report, arrived = sent_and_recorded(lab, record, [file, pace])
    assert [p.data for p in arrived] == frames
    assert report["sent"] == 5000 and report["bytes"] == 5000 * length
    assert report["zero_copy"] is False
    assert report["tx_errors"] == {
        "tx_invalid_descs": 0,
        "tx_ring_empty": report["tx_errors"]["tx_ring_empty"],
        "tx_dropped": 0,
    }


def test_all_kinds_of_frames_arrive_as_tcpdump_sees_them_too(lab, tmp_path):
    frames = list(mixed_frames(2000))
    file = pcap_file(tmp_path / "in.pcap", frames)
    with Tcpdump(lab.rx_ns, "rx0", tmp_path / "out.pcap") as tcpdump:
        sent = Replay(lab, [file, TOP_SPEED]).wait()
        assert sent.returncode == 0, sent.stderr
        assert tcpdump.packets_once(len(frames), sum(map(len, frames))) == frames


def test_packets_of_several_frames_arrive_whole(make_lab, record, tmp_path):
    lab = make_lab(mtu=9000)
    frames = [
        numbered_frame(length, n)
        for n, length in enumerate([60, 2047, 2048, 2049, 4096, 4097, 8192, 9000, 9014] * 50)
    ]
    file = pcap_file(tmp_path / "in.pcap", frames)
    report, arrived = sent_and_recorded(lab, record, [file, TOP_SPEED])
    assert [p.data for p in arrived] == frames
    assert report["skipped"] == {"too_long": 0, "too_short": 0}


def test_several_queues_keep_each_flow_in_order(make_lab, record, tmp_path):
    lab = make_lab(queues=4)
    frames = list(mixed_frames(4000))
    file = pcap_file(tmp_path / "in.pcap", frames)
    report, arrived = sent_and_recorded(lab, record, [file, TOP_SPEED, "--queues", "0-3"])
    assert sorted(p.data for p in arrived) == sorted(frames)
    assert sum(row["sent"] for row in report["queues"]) == 4000
    assert len([row for row in report["queues"] if row["sent"]]) > 1


def test_several_files_standard_input_and_gzip_are_one_row_of_packets(lab, record, tmp_path):
    frames = numbered(900)
    first = pcap_file(tmp_path / "a.pcap", frames[:300])
    packed = tmp_path / "b.pcap.gz"
    packed.write_bytes(gzip.compress(pcap_file(tmp_path / "b", frames[300:600]).read_bytes()))
    third = pcap_file(tmp_path / "c.pcap", frames[600:])
    with third.open("rb") as stdin:
        report, arrived = sent_and_recorded(
            lab, record, [first, packed, "-", TOP_SPEED], stdin=stdin
        )
    assert [p.data for p in arrived] == frames
    assert report["sent"] == 900


@pytest.mark.parametrize("memory", ["--preload", "--no-preload"])
def test_a_large_file_arrives_whole_read_at_once_or_streamed(lab, record, tmp_path, memory):
    frames = numbered(60_000, 512)
    file = pcap_file(tmp_path / "in.pcap", frames)
    report, arrived = sent_and_recorded(lab, record, [file, TOP_SPEED, memory])
    assert report["sent"] == 60_000
    assert [p.data for p in arrived] == frames


# -- how much and how long ------------------------------------------------------------------


def test_a_thousand_loops_send_everything_a_thousand_times(lab, record, tmp_path):
    frames = numbered(100)
    file = pcap_file(tmp_path / "in.pcap", frames)
    report, arrived = sent_and_recorded(lab, record, [file, TOP_SPEED, "--loop", "1000"])
    assert report["sent"] == 100_000 and report["loops"] == 1000
    numbers = [frame_number(p.data) for p in arrived]
    assert numbers == list(range(100)) * 1000


@pytest.mark.parametrize("limit", [1, 250, 1000])
def test_a_limit_counts_packets_over_all_loops(lab, record, tmp_path, limit):
    file = pcap_file(tmp_path / "in.pcap", numbered(100))
    report, arrived = sent_and_recorded(
        lab, record, [file, TOP_SPEED, "--loop", "0", "--limit", str(limit)]
    )
    assert report["sent"] == len(arrived) == limit


def test_a_duration_ends_a_replay_without_end(lab, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", numbered(100))
    sent = Replay(lab, [file, "--pps", "1000", "--loop", "0", "--duration", "1s"]).wait()
    assert sent.returncode == 0, sent.stderr
    assert 900 <= sent.report["sent"] <= 1001


# -- when -----------------------------------------------------------------------------------


def gaps(arrived):
    return [later.ts_ns - earlier.ts_ns for earlier, later in pairwise(arrived)]


def test_recorded_times_are_kept_on_average_and_for_most_packets(lab, record, tmp_path):
    times = [SECOND_NS + n * 1_000_000 + (n % 7) * 50_000 for n in range(1000)]
    frames = numbered(1000)
    file = tmp_path / "in.pcap"
    file.write_bytes(timed_pcap(zip(times, frames, strict=True)))
    report, arrived = sent_and_recorded(lab, record, [file])
    assert [p.data for p in arrived] == frames
    wanted = [later - earlier for earlier, later in pairwise(times)]
    errors = [abs(got - want) for got, want in zip(gaps(arrived), wanted, strict=True)]
    # A machine with other work misses many; the best quarter tells whether pacing works.
    assert statistics.quantiles(errors, n=4)[0] < 100_000
    span = arrived[-1].ts_ns - arrived[0].ts_ns
    assert span == pytest.approx(times[-1] - times[0], rel=0.05)
    assert report["timing"]["min_ns"] <= report["timing"]["p50_ns"] <= report["timing"]["max_ns"]


@pytest.mark.parametrize(
    ("options", "seconds"),
    [(["--speed", "4"], 0.25), (["--pps", "2000"], 0.5), (["--gap-limit", "500us"], 0.5)],
)
def test_a_pace_takes_the_time_that_it_stands_for(lab, record, tmp_path, options, seconds):
    file = pcap_file(tmp_path / "in.pcap", numbered(1001), gap_ns=1_000_000)
    _, arrived = sent_and_recorded(lab, record, [file, *options])
    span = (arrived[-1].ts_ns - arrived[0].ts_ns) / 1e9
    assert span == pytest.approx(seconds, rel=0.1)


@pytest.mark.parametrize("pace", [TOP_SPEED, "--pps=10k"])
def test_nothing_leaves_before_the_moment_that_was_asked_for(lab, tmp_path, pace):
    file = pcap_file(tmp_path / "in.pcap", numbered(10))
    begun = time.time()
    replay = Replay(lab, [file, pace, "--start-at", f"@{begun + 2:.3f}"])
    time.sleep(1.5 - (time.time() - begun))
    assert lab.statistics()["tx_packets"] == 0
    sent = replay.wait()
    assert time.time() - begun >= 2
    assert sent.report["sent"] == lab.statistics()["tx_packets"] == 10
    assert 0 < sent.report["seconds"] < 1


def test_bits_on_the_wire_count_preamble_and_gap(lab, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", numbered(1000))
    sent = Replay(lab, [file, "--mbps", "1"]).wait()
    # 84 bytes a packet on the wire: 672 us each at 1 Mb/s.
    assert sent.report["seconds"] == pytest.approx(0.672, rel=0.1)
    assert sent.report["mbps"] == pytest.approx(1.0, rel=0.1)


# -- what is left out -----------------------------------------------------------------------


def test_exactly_the_packets_that_are_too_long_are_left_out(lab, record, tmp_path):
    frames = [numbered_frame(1514 if n % 2 else 1515, n) for n in range(1000)]
    file = pcap_file(tmp_path / "in.pcap", frames)
    report, arrived = sent_and_recorded(lab, record, [file, TOP_SPEED])
    assert [p.data for p in arrived] == frames[1::2]
    assert report["skipped"] == {"too_long": 500, "too_short": 0}
    assert report["skipped_numbers"]["too_long"][:3] == [1, 3, 5]


def test_a_tagged_frame_may_be_four_bytes_longer(lab, record, tmp_path):
    plain = numbered_frame(1514, 1)
    tagged = plain[:12] + b"\x81\x00\x00\x05" + plain[12:]
    file = pcap_file(tmp_path / "in.pcap", [tagged, tagged + b"x"])
    report, arrived = sent_and_recorded(lab, record, [file, TOP_SPEED])
    assert [p.data for p in arrived] == [tagged]
    assert report["skipped"]["too_long"] == 1


@pytest.mark.parametrize("memory", ["--preload", "--no-preload"])
def test_strict_sends_nothing_of_a_file_with_a_packet_that_can_not_be_sent(
    lab, record, tmp_path, memory
):
    frames = [*numbered(50_000, 1000), numbered_frame(1515, 7)]
    file = pcap_file(tmp_path / "in.pcap", frames)
    recorder = record("--json")
    sent = Replay(lab, [file, TOP_SPEED, "--strict", memory]).wait()
    assert sent.returncode == 1 and sent.stdout == ""
    assert "packet 50001 is too long" in sent.stderr and sent.stderr.count("\n") == 1
    assert recorder.stop().total["seen"] == 0


def test_what_stands_before_the_damage_is_sent_and_the_damage_told(lab, record, tmp_path):
    frames = numbered(100)
    file = pcap_file(tmp_path / "in.pcap", frames)
    file.write_bytes(file.read_bytes()[:-10])
    recorder = record("--json")
    sent = Replay(lab, [file, TOP_SPEED]).wait()
    assert sent.returncode == 1
    assert f"damaged at offset {24 + 99 * 76}, after packet 99" in sent.stderr
    assert sent.report["sent"] == 99
    assert contents(recorder.stop().files) == frames[:99]


# -- the proof ------------------------------------------------------------------------------


def test_verify_finds_nothing_missing_and_says_so(lab, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", list(mixed_frames(3000)))
    sent = Replay(lab, [file, TOP_SPEED, "--verify", f"{lab.rx_ns}:rx0"]).wait()
    assert sent.returncode == 0, sent.stderr
    found = sent.report["verify"]
    assert found["sent"] == found["arrived"] == 3000
    assert (found["missing"], found["extra"], found["changed"], found["reordered"]) == (0, 0, 0, 0)


def send_beside(frames):
    """From a packet socket: the queue's AF_XDP socket is taken."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("tx0", 0))
        for frame in frames:
            wire.send(frame)


def test_verify_finds_what_another_sends_meanwhile(lab, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", numbered(2000))
    first = Replay(lab, [file, "--pps", "1000", "--verify", f"{lab.rx_ns}:rx0"])
    deadline = time.monotonic() + 20 * PATIENCE
    while lab.statistics()["rx_packets"] < 100:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    in_netns(lab.tx_ns, send_beside, [numbered_frame(99, 5)] * 3)
    sent = first.wait()
    assert sent.returncode == 1 and "3 extra" in sent.stderr
    assert sent.report["verify"]["extra"] == 3 and sent.report["verify"]["missing"] == 0


# -- faults ---------------------------------------------------------------------------------


def started(lab):
    deadline = time.monotonic() + 20 * PATIENCE
    while lab.statistics()["tx_packets"] < 10:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_ends_it_within_a_second_with_the_report(lab, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", numbered(100))
    replay = Replay(lab, [file, "--pps", "5000", "--loop", "0"])
    started(lab)
    sent = replay.stop()
    assert sent.seconds < 1.0
    assert sent.report["sent"] == lab.statistics()["rx_packets"] > 0


def test_the_link_going_down_ends_it_with_what_was_sent(lab, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", numbered(100))
    replay = Replay(lab, [file, "--pps", "5000", "--loop", "0"])
    started(lab)
    lab.set_link("tx0", False)
    sent = replay.wait(20)
    assert sent.returncode == 1
    assert "tx0" in sent.stderr and "down" in sent.stderr
    assert sent.report["sent"] > 0
    lab.set_link("tx0", True)


@pytest.mark.parametrize("attach", ["none", "native"])
def test_a_killed_replay_leaves_nothing_and_the_next_one_starts_at_once(lab, tmp_path, attach):
    file = pcap_file(tmp_path / "in.pcap", numbered(100))
    replay = Replay(lab, [file, "--pps", "1000", "--loop", "0", "--attach", attach])
    started(lab)
    replay.process.kill()
    replay.process.wait()
    sent = Replay(lab, [file, TOP_SPEED, "--attach", attach]).wait()
    assert sent.returncode == 0, sent.stderr
    assert sent.report["sent"] == 100


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--queues", "7"], 2, "queue 7"),
        (["--pps", "10", "--top-speed"], 2, "two paces"),
        (["--zero-copy", "require"], 1, "zero-copy"),
    ],
)
def test_what_can_not_be_done_is_one_line(lab, tmp_path, arguments, code, words):
    file = pcap_file(tmp_path / "in.pcap", numbered(3))
    sent = Replay(lab, [file, *arguments]).wait()
    assert sent.returncode == code and sent.stdout == ""
    assert words in sent.stderr and sent.stderr.count("\n") == 1
    assert lab.statistics()["tx_packets"] == 0


def test_an_interface_that_is_not_there_or_down_is_one_line(lab, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", numbered(3))
    missing = Replay(lab, [file], interface="nope0").wait()
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1
    lab.set_link("tx0", False)
    down = Replay(lab, [file]).wait()
    assert down.returncode == 1 and "ip link set tx0 up" in down.stderr


def test_a_far_end_that_is_down_is_told_before_packets_are_lost(lab, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", numbered(3))
    lab.set_link("rx0", False)
    sent = Replay(lab, [file, TOP_SPEED]).wait()
    assert sent.returncode == 0 and "tx0 has no carrier" in sent.stderr
    assert sent.report["tx_errors"]["tx_dropped"] == 3
    lab.set_link("rx0", True)


# -- both directions ------------------------------------------------------------------------


@pytest.fixture
def two_sided(lab):
    """The lab with a second pair between the same namespaces: side1 in the sender's."""
    run("ip", "-n", lab.tx_ns, "link", "add", "side1", "type", "veth", "peer", "far1", "netns",
        lab.rx_ns)  # fmt: skip
    run("ip", "-n", lab.tx_ns, "link", "set", "side1", "up")
    run("ip", "-n", lab.rx_ns, "link", "set", "far1", "up")
    return lab


CLIENT, SERVER = "10.0.0.1", "192.0.2.80"


def conversation(count):
    """Packets of one conversation, from the client and from the server in turn."""
    ends = [(CLIENT, SERVER), (SERVER, CLIENT)]
    ports = [(40000, 80), (80, 40000)]
    return [
        ip_packet(*ends[n % 2], ports=ports[n % 2]) + n.to_bytes(4, "big") for n in range(count)
    ]


@pytest.mark.parametrize("by", ["prefix", "cache"])
def test_both_halves_of_a_conversation_leave_on_their_own_side(two_sided, record, tmp_path, by):
    frames = conversation(1000)
    file = pcap_file(tmp_path / "in.pcap", frames)
    split = "192.0.2.0/24"
    if by == "cache":
        split = str(tmp_path / "in.split")
        run(sys.executable, "-m", "xdpcap", "split", file, "--prefix", "192.0.2.0/24", "-o", split)
    recorder = record("--json", interfaces=("rx0", "far1"))
    sent = Replay(two_sided, [file, TOP_SPEED, "-I", "side1", "--split", split]).wait()
    assert sent.returncode == 0, sent.stderr
    result = recorder.stop()
    assert contents(of_queue(result, 0, "rx0")) == frames[0::2]
    assert contents(of_queue(result, 0, "far1")) == frames[1::2]
    assert sent.report["sent"] == 1000
