"""`xdpcap bench` on a veth pair: every packet counted, forwarded ones whole, nothing left."""

from __future__ import annotations

import contextlib
import csv
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import forked_command
import pytest
from capture_files import contents
from forked_command import ROOT
from timeouts import PATIENCE

from xdpcap import net
from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import Sender


@contextlib.contextmanager
def bench(lab, mode, *arguments, netns=None, interface="rx0") -> Iterator[subprocess.Popen[str]]:
    """`xdpcap bench MODE` on one end of the lab, once it runs; killed if it is still there."""
    command = ["bench", mode, "-i", interface, "--json"]
    process = in_netns(
        netns or lab.rx_ns,
        forked_command.start,
        [*command, "--stats-interval", "100ms", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stderr.readline()
        if mode in line and " on " in line:
            process.stderr.readline()  # the first interval: packets are taken by now
        yield process
    finally:
        process.kill()
        process.wait()


def ended(process, *, stop=False):
    """Its result; `stop` ends it by SIGINT."""
    if stop:
        process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30 * PATIENCE)
    assert process.returncode == 0, stderr
    return json.loads(stdout)


def attached(lab):
    return in_netns(lab.rx_ns, net.get_link, "rx0").xdp_mode


@pytest.mark.parametrize("attach", ["native", "generic"])
def test_every_packet_that_was_taken_is_counted_and_the_program_goes(lab, attach):
    frames = [numbered_frame(60 + n % 1000, n) for n in range(5000)]
    # A ring that holds them all: a loop that is kept from running for a while loses none.
    room = ("--ring-size", "8192")
    with bench(lab, "rx-drop", "--duration", "1m", "--attach", attach, *room) as process:
        with Sender(lab) as sender:
            sender.send(frames)
        time.sleep(0.3)
        assert attached(lab) == attach
        report = ended(process, stop=True)
    assert report["packets"] == len(frames)
    assert report["bytes"] == sum(map(len, frames))
    assert report["rx_dropped"] == report["rx_ring_full"] == 0
    assert report["zero_copy"] is False and report["attach"] == attach
    assert 0 < report["ring_most"] <= 1
    assert attached(lab) is None


def test_what_is_sent_at_full_rate_is_what_arrives(lab, record):
    recorder = record("--json")
    with bench(
        lab, "tx-only", "--duration", "1s", "--packet-size", "100", netns=lab.tx_ns, interface="tx0"
    ) as process:
        report = ended(process)
    total = recorder.stop().total
    assert report["packets"] > 10_000 and report["bytes"] == 100 * report["packets"]
    # The result is of the last whole moment; a batch or two leave after it.
    assert report["packets"] <= total["seen"] == lab.statistics()["rx_packets"]
    assert report["pps"] == pytest.approx(report["packets"] / report["seconds"])


def test_the_frame_that_is_sent_is_one_that_no_stack_takes(lab, record):
    recorder = record("--count", "10")
    with bench(
        lab, "tx-only", "--duration", "1s", "--packet-size", "99", netns=lab.tx_ns, interface="tx0"
    ) as process:
        ended(process)
    result = recorder.wait()
    frame = bytes.fromhex("020000000001020000000002 88b5") + bytes(85)
    assert contents(result.files) == [frame] * 10


def returning(sender_lab, frames):
    """Send frames from a packet socket, and take what comes back."""

    def exchange():
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire:
            wire.bind(("tx0", 3))
            wire.settimeout(10)
            came = []
            for frame in frames:
                wire.send(frame)
                while True:
                    data, address = wire.recvfrom(65536)
                    if address[2] != socket.PACKET_OUTGOING:
                        came.append(data)
                        break
            return came

    return in_netns(sender_lab.tx_ns, exchange)


@pytest.mark.parametrize("mtu", [1500, 9000])
def test_forwarded_packets_come_back_whole_with_their_addresses_swapped(make_lab, mtu):
    lab = make_lab(mtu=mtu)
    frames = [numbered_frame(size, n) for n, size in enumerate([60, 61, 1000, mtu + 14] * 25)]
    with bench(lab, "l2fwd", "--duration", "1m") as process:
        came = returning(lab, frames)
        report = ended(process, stop=True)
    assert came == [frame[6:12] + frame[:6] + frame[12:] for frame in frames]
    assert report["packets"] == len(frames)


def test_forwarding_loses_no_frame_of_its_memory(lab):
    # Many times the 256 frames that there are.
    frames = [numbered_frame(60, n) for n in range(256)]
    with bench(lab, "l2fwd", "--duration", "1m", "--ring-size", "256") as process:
        for _ in range(20):
            with Sender(lab) as sender:
                sender.send(frames)
            time.sleep(0.05)
        assert len(returning(lab, frames[:50])) == 50
        report = ended(process, stop=True)
    assert report["packets"] + report["rx_dropped"] + report["rx_ring_full"] == 20 * 256 + 50


def test_a_sweep_measures_each_combination_and_writes_them_down(lab, tmp_path):
    table = tmp_path / "sweep.csv"
    arguments = ("--duration", "200ms", "--csv", str(table), "--sweep", "batch=16,64",
                 "packet-size=60,1514")  # fmt: skip
    with bench(lab, "tx-only", *arguments, netns=lab.tx_ns, interface="tx0") as process:
        found = ended(process)
    assert [row["sweep"] for row in found] == [
        {"batch": batch, "packet-size": size} for batch in ("16", "64") for size in ("60", "1514")
    ]
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["pps"]) for row in rows] == [row["pps"] for row in found]
    assert all(row["packets"] for row in found)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--queues", "5"], 2, "queue 5"),
        (["--zero-copy", "require"], 1, "ZEROCOPY"),
        (["--netns", "nowhere"], 2, "nowhere"),
    ],
)
def test_what_can_not_be_measured_is_one_line_and_leaves_nothing(lab, arguments, code, words):
    command = [sys.executable, "-m", "xdpcap", "bench", "rx-drop", "-i", "rx0", *arguments]
    done = in_netns(
        lab.rx_ns, subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert words in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""
    assert attached(lab) is None
