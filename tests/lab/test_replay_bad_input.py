"""What a replay refuses is one line, with nothing sent and nothing left attached."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_files import contents, run
from forked_command import ROOT
from replayer import Replay, pcap_file, timed_pcap

from xdpcap import net
from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import numbered_frame

FRAMES = [numbered_frame(60, number) for number in range(100)]


@pytest.fixture
def file(tmp_path) -> Path:
    return pcap_file(tmp_path / "in.pcap", FRAMES)


def refused(lab, arguments, code=2, *, prefix=()):
    """The one line with which the replay ends; nothing has left and nothing is attached."""
    replay = in_netns(
        lab.tx_ns,
        subprocess.run,
        [*prefix, sys.executable, "-m", "xdpcap", "replay", "-i", "tx0", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert replay.returncode == code, replay.stderr
    assert replay.stdout == "" and replay.stderr.count("\n") == 1, replay.stderr
    assert lab.statistics()["tx_packets"] == 0
    assert in_netns(lab.tx_ns, net.get_link, "tx0").xdp_mode is None
    return replay.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"GIF89a" + bytes(200), "not a capture file"),
        (timed_pcap([]), "no packet to send"),
        (timed_pcap([])[:20] + (113).to_bytes(4, "little"), "LINUX_SLL"),
        (timed_pcap([])[:20] + (101).to_bytes(4, "little"), "--dst-mac and --src-mac"),
        (timed_pcap([(0, bytes(13))]), "none of 1 packets can be sent"),
    ],
)
def test_a_file_that_holds_nothing_to_send(lab, tmp_path, content, said):
    path = tmp_path / "in"
    path.write_bytes(content)
    code = 1 if "packet" in said else 2
    assert said in refused(lab, [path], code)


def test_a_file_that_is_not_there_or_is_a_directory(lab, tmp_path):
    assert "No such file" in refused(lab, [tmp_path / "nope.pcap"])
    assert "directory" in refused(lab, [tmp_path])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pps", "10", "--mbps", "10"], "two paces"),
        (["--speed", "0"], "--speed 0"),
        (["--gap-limit", "1s", "--pps", "10"], "--gap-limit"),
        (["--queues", "1"], "queue 1"),
        (["--cpus", "4095"], "--cpus 4095"),
        (["--netns", "nowhere"], "nowhere"),
        (["-I", "tx0", "--split", "10.0.0.0/8"], "the same as -i"),
        (["--attach", "offload"], "offload"),
        (["--ring-size", "1000"], "use 1024"),
        (["--vlan", "4095"], "4095"),
        (["--map-ip", "10.0.0.0/8:10.0.0.0/9"], "10.0.0.0"),
        (["--start-at", "yesterday"], "yesterday"),
    ],
)
def test_options_that_can_not_be_met(lab, file, arguments, said):
    assert said in refused(lab, [file, *arguments])


def test_a_user_without_privileges_is_told_which(lab, file):
    drop = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    assert "CAP_NET_RAW" in refused(lab, [file], prefix=drop)


def test_the_interface_of_the_default_route_is_refused_unless_forced(lab, file):
    run("ip", "-n", lab.tx_ns, "addr", "add", "198.51.100.1/24", "dev", "tx0")
    run("ip", "-n", lab.tx_ns, "route", "add", "default", "via", "198.51.100.2")
    said = refused(lab, [file])
    assert said.startswith("xdpcap: tx0 carries the IPv4 default route") and "--force" in said
    sent = Replay(lab, [file, "--top-speed", "--force"]).wait()
    assert sent.returncode == 0 and sent.report["sent"] == len(FRAMES)


def test_a_file_that_vanishes_midway_ends_it_after_what_was_read(lab, record, file, tmp_path):
    later = pcap_file(tmp_path / "later.pcap", FRAMES)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    recorder = record("--json")
    replay = Replay(lab, [pipe, later, "--top-speed", "--no-preload"])
    with pipe.open("wb") as writer:
        writer.write(file.read_bytes())
        writer.flush()
        later.unlink()
    sent = replay.wait()
    assert sent.returncode == 1
    assert "later.pcap: No such file" in sent.stderr
    assert sent.report["sent"] == len(FRAMES)
    assert contents(recorder.stop().files) == FRAMES


PACKET_BYTES = 1400
STREAMED = 300_000


def stream() -> Iterator[bytes]:
    """A capture of 400 MB, piece by piece."""
    yield timed_pcap([])
    record = timed_pcap([(0, numbered_frame(PACKET_BYTES, 0))])[24:]
    for _ in range(STREAMED // 1000):
        yield record * 1000


def test_a_stream_of_any_length_needs_no_more_memory_than_the_batches_ahead(lab):
    replay = Replay(lab, ["-", "--top-speed"], stdin=subprocess.PIPE)
    most = 0
    process = replay.process
    with process.stdin.buffer as writer:
        for piece in stream():
            writer.write(piece)
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            most = max(most, int(peak.split()[1]))
    process.stdin = None
    sent = replay.wait()
    assert sent.report["sent"] == STREAMED
    # Interpreter and libraries, the UMEM of 16 MiB, nine batches of 8 MiB; the stream has 400 MiB.
    assert most < 200 * 1024, f"{most} KiB"
