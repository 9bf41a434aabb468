"""Two replays at once over one link, in opposite directions: each arrives whole and in order."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from capture_files import contents, of_queue, packets
from replayer import Replay, pcap_file
from tcpdump import Tcpdump

from xdpcap.bench.lab import Lab
from xdpcap.bench.lab.frames import mixed_frames, numbered_frame

COUNT = 20_000
# Near half a second for all of them, longer than the two starts are apart.
PACE = ["--pps", "50k", "--quiet"]


@pytest.fixture
def there() -> list[bytes]:
    return list(mixed_frames(COUNT))


@pytest.fixture
def back() -> list[bytes]:
    return [numbered_frame(60 + n * 31 % 1400, n) for n in range(COUNT)]


def from_both_ends(
    lab: Lab, directory: Path, there: list[bytes], back: list[bytes], queues=("0", "0")
) -> None:
    """Send `there` from tx0 and `back` from rx0 at the same time, each from its queue.

    Returns when both have ended, with every packet completed.
    """
    outward = [pcap_file(directory / "there.pcap", there), *PACE, "--queues", queues[0]]
    homeward = [pcap_file(directory / "back.pcap", back), *PACE, "--queues", queues[1]]
    # Both are ready by then, on a busy machine too.
    late = ["--start-at", f"@{time.time() + 3:.3f}"]
    replays = [
        Replay(lab, [*outward, *late]),
        Replay(lab, [*homeward, *late, "--netns", lab.rx_ns], interface="rx0"),
    ]
    for replay, frames in zip(replays, (there, back), strict=True):
        sent = replay.wait()
        assert sent.returncode == 0, sent.stderr
        assert (sent.report["sent"], sent.report["bytes"]) == (len(frames), sum(map(len, frames)))


def test_tcpdump_at_each_end_sees_what_the_other_end_sent(lab, tmp_path, there, back):
    """One queue: both ends send from it and receive on it."""
    with (
        Tcpdump(lab.rx_ns, "rx0", tmp_path / "at-rx0.pcap") as at_rx0,
        Tcpdump(lab.tx_ns, "tx0", tmp_path / "at-tx0.pcap") as at_tx0,
    ):
        from_both_ends(lab, tmp_path, there, back)
        assert at_rx0.packets_once(COUNT, sum(map(len, there))) == there
        assert at_tx0.packets_once(COUNT, sum(map(len, back))) == back


def test_each_end_records_one_queue_and_sends_from_the_other(
    make_lab, record, tmp_path, there, back
):
    """A queue has one AF_XDP socket: who records all of an interface can't send from it."""
    lab = make_lab(queues=2)
    at_rx0 = record("--json", "--queues", "0", lab=lab, directory=tmp_path / "rx0")
    at_tx0 = record(
        *("--json", "--queues", "1", "--netns", lab.tx_ns),
        lab=lab,
        directory=tmp_path / "tx0",
        interfaces=("tx0",),
    )
    from_both_ends(lab, tmp_path, there, back, queues=("0", "1"))
    results = at_rx0.stop(), at_tx0.stop()
    assert [result.total["seen"] for result in results] == [COUNT, COUNT]
    arrived = packets(of_queue(results[0], 0, "rx0")), packets(of_queue(results[1], 1, "tx0"))
    for found, frames in zip(arrived, (there, back), strict=True):
        assert [packet.data for packet in found] == frames
    # Each had begun before the other ended.
    assert max(row[0].ts_ns for row in arrived) < min(row[-1].ts_ns for row in arrived)


def test_a_queue_that_is_recorded_can_not_be_sent_from_and_both_are_none_the_worse(
    lab, record, tmp_path
):
    frames = [numbered_frame(60, n) for n in range(1000)]
    file = pcap_file(tmp_path / "in.pcap", frames)
    recorder = record("--json")
    refused = Replay(lab, [file, *PACE, "--netns", lab.rx_ns], interface="rx0").wait()
    assert refused.returncode == 1 and refused.stdout == ""
    assert "rx0 queue 0" in refused.stderr and refused.stderr.count("\n") == 1
    assert "is another program using this queue?" in refused.stderr
    assert Replay(lab, [file, *PACE]).wait().returncode == 0
    assert contents(recorder.stop().files) == frames
