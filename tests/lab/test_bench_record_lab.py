"""`xdpcap bench record` on a veth pair: exact ledgers, nothing left, and who limits."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked_command
import pytest
from capture_files import numbers
from ledger_checks import Wire, in_file
from timeouts import PATIENCE

from xdpcap.bench.lab import Lab, in_netns
from xdpcap.programs.program import attached_program

READY = "xdpcap: measuring "
COMMAND = ["bench", "record", "-i", "rx0", "--json"]


class Bench:
    """A measurement in the lab's receiver; it is ready when made."""

    def __init__(self, lab: Lab, *arguments: str | Path) -> None:
        self.process: subprocess.Popen[str] = in_netns(
            lab.rx_ns,
            forked_command.start,
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line.startswith(READY), line + self.process.stderr.read()

    def report(self) -> dict[str, Any]:
        """What it prints in the end."""
        stdout, stderr = self.process.communicate(timeout=30 * PATIENCE)
        assert (self.process.returncode, stderr) == (0, "")
        found: dict[str, Any] = json.loads(stdout)
        assert found["problems"] == []
        return found

    def stop(self) -> dict[str, Any]:
        """End it early."""
        self.process.send_signal(signal.SIGINT)
        return self.report()


@pytest.fixture
def bench(lab: Lab) -> Iterator[Any]:
    """A factory of measurements; what still runs in the end is killed."""
    running: list[Bench] = []

    def start(*arguments: str | Path, lab: Lab = lab) -> Bench:
        running.append(Bench(lab, *arguments))
        return running[-1]

    yield start
    for one in running:
        one.process.kill()
        one.process.communicate()


def check(report: dict[str, Any], arrived: int) -> None:
    """The ledger is exact, and no time is in two stages or in none."""
    ledger = report["ledger"]
    assert ledger["seen"] == ledger["redirected"] == arrived
    lost = ledger["rx_dropped"] + ledger["rx_ring_full"]
    assert ledger["received"] == report["packets"] == arrived - lost
    assert ledger["written"] == ledger["received"]
    assert (ledger["unaccounted"], ledger["write_dropped"]) == (0, 0)
    assert report["lost"] == lost
    parts = ("peek", "encode", "submit", "kernel", "disk", "idle", "source")
    times = [report["stages"][f"{name}_ns"] for name in parts]
    workers_s = report["seconds"] * len(report["queues"])
    assert sum(times) * report["packets"] == pytest.approx(workers_s * 1e9, rel=0.1)
    assert report["stages"]["source_ns"] == 0


def attached(lab: Lab) -> Any:
    return in_netns(lab.rx_ns, attached_program, lab.rx_ifindex)


def test_with_everything_real_the_ledger_is_exact_and_nothing_stays(lab, bench, tmp_path):
    running = bench("-o", tmp_path, "--duration", "1m")
    wire = Wire(lab)
    wire.blast(300_000)
    arrived = wire.arrived()
    report = running.stop()
    check(report, arrived)
    assert report["bytes"] == 60 * report["packets"]
    assert report["file_bytes"] > report["bytes"]
    assert (report["simulate"], report["interface"], report["sizes"]) == ("none", "rx0", None)
    assert report["files"] == [] and list(tmp_path.iterdir()) == []
    assert not attached(lab)


def test_files_that_are_kept_hold_every_packet(lab, bench, tmp_path):
    running = bench("-o", tmp_path, "--duration", "1m", "--keep", "--format", "pcap")
    wire = Wire(lab)
    wire.blast(5000)
    wire.arrived()
    report = running.stop()
    (file,) = report["files"]
    assert numbers([Path(file["path"])]) == list(range(5000))
    assert in_file(file["path"]) == report["packets"] == file["packets"]


def test_without_the_disk_packets_are_taken_encoded_and_thrown_away(lab, bench, tmp_path):
    running = bench("--simulate", "disk", "--duration", "1m")
    wire = Wire(lab)
    wire.blast(300_000, 1514)
    arrived = wire.arrived()
    report = running.stop()
    check(report, arrived)
    assert report["bytes"] == 1514 * report["packets"]
    assert (report["file_bytes"], report["file_mbps"]) == (0, 0)
    assert report["stages"]["encode_ns"] > 0 and report["stages"]["disk_ns"] == 0
    assert not attached(lab)


def test_a_worker_that_is_idle_says_that_the_sender_limits(lab, bench):
    running = bench("--simulate", "disk", "--duration", "1500ms")
    Wire(lab).blast(2000, pps=2000)
    report = running.report()
    assert report["packets"] == 2000
    assert report["limit"] == "sender"
    assert report["stages"]["wait_share"] > 0.5
    assert report["why"].startswith("the sender limits: the worker was idle ")
    assert 1.4 < report["seconds"] < 4


def test_without_any_packet_that_is_what_it_says(lab, bench):
    report = bench("--simulate", "disk", "--duration", "100ms").report()
    assert (report["packets"], report["limit"]) == (0, "sender")
    assert report["why"] == "no packet came: the worker was idle all the time"


def test_each_queue_has_its_own_account_and_the_busiest_one_tells(make_lab, bench):
    lab = make_lab(queues=2)
    running = bench("--simulate", "disk", "--duration", "1m", lab=lab)
    wire = Wire(lab)
    wire.blast(100_000, queue=0)
    wire.blast(50_000, queue=1)
    arrived = wire.arrived()
    report = running.stop()
    check(report, arrived)
    assert [queue["queue"] for queue in report["queues"]] == [0, 1]
    counts = [queue["packets"] for queue in report["queues"]]
    assert sum(counts) == report["packets"]
    assert counts[0] > counts[1] > 0


def test_an_early_end_is_no_failure_and_leaves_nothing(lab, bench, tmp_path):
    running = bench("-o", tmp_path, "--duration", "1m")
    time.sleep(0.2)
    assert running.stop()["seconds"] < 10
    assert list(tmp_path.iterdir()) == []
    assert not attached(lab)
