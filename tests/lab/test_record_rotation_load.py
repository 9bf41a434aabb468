"""Files change under the generator's full rate and not one packet is lost or there twice."""

from __future__ import annotations

import itertools
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
from capture_files import blasted_numbers, capinfos, of_queue
from ledger_checks import Wire, check_row

# Rings with room for all of it: what a worker that waits for a CPU does not take at once
# is not what is tested here.
ROOMY = ("--umem-size", "256MiB")
PACKETS = 131_072


@pytest.fixture(params=["memory", "disk"])
def directory(request, tmp_path):
    """A directory in memory, and one on disk, where blocks are in flight as files change."""
    if request.param == "disk":
        return tmp_path / "captures"
    path = Path(tempfile.mkdtemp(prefix="xdpcap-test-", dir="/dev/shm"))
    request.addfinalizer(lambda: shutil.rmtree(path))
    return path / "captures"


def check_all_there(result, arrived: int, size: int, queue: int = 0) -> None:
    """The report balances, and the files of the queue hold what arrived once, in order."""
    assert result.returncode == 0, result.stderr
    assert result.total["rx_dropped"] == result.total["rx_ring_full"] == 0
    for interface in result.report["interfaces"]:
        for row in interface["queues"]:
            check_row(row)
    files = of_queue(result, queue)
    found = [blasted_numbers(path, size) for path in files]
    numbers = [number for numbers in found for number in numbers]
    assert len(numbers) == arrived and numbers == sorted(set(numbers))
    told = {file["path"]: (file["packets"], file["bytes"]) for file in result.report["files"]}
    for path, numbers in zip(files, found, strict=True):
        assert told[str(path)] == (len(numbers), path.stat().st_size)


RULES = {
    "size": (["--rotate-size", "512KiB"], 30),
    "packets": (["--rotate-packets", "3k", "--format", "pcap"], 43),
    "together": (
        ["--rotate-size", "512KiB", "--rotate-packets", "4k", "--rotate-interval", "100ms"],
        32,
    ),
}


@pytest.mark.parametrize(("rules", "at_least"), RULES.values(), ids=RULES)
def test_rotation_at_full_rate_loses_nothing(lab, directory, record, rules, at_least):
    recorder = record("--json", *ROOMY, *rules, directory=directory)
    wire = Wire(lab)
    wire.blast(PACKETS)
    arrived = wire.arrived()
    result = recorder.stop()
    assert len(result.files) >= at_least * arrived // PACKETS
    check_all_there(result, arrived, 60)
    for path in (result.files[0], result.files[-1]):
        assert int(capinfos(path)["Number of packets"]) == len(blasted_numbers(path, 60))


def test_sighup_at_full_rate_loses_nothing(make_lab, directory, record):
    lab = make_lab(queues=2)
    recorder = record("--json", *ROOMY, lab=lab, directory=directory)
    wire = Wire(lab)
    for _ in range(6):
        wire.blast(20_000, queue=0)
        recorder.send_signal(signal.SIGHUP)
        time.sleep(0.03)
    arrived = wire.arrived()
    result = recorder.stop()
    assert result.total["rx_dropped"] == 0
    found = [n for path in of_queue(result, 0) for n in blasted_numbers(path, 60)]
    assert len(found) == arrived
    # Six blasts, each counted from 0.
    assert sum(a >= b for a, b in itertools.pairwise(found)) == 5
    # Signals that come while one is pending are one.
    assert all(2 <= len(of_queue(result, queue)) <= 7 for queue in range(2))


def test_long_packets_at_full_rate_to_rotating_files_are_whole(lab, directory, record):
    recorder = record("--json", *ROOMY, "--rotate-size", "8MiB", directory=directory)
    wire = Wire(lab)
    wire.blast(60_000, 1514)
    arrived = wire.arrived()
    result = recorder.stop()
    check_all_there(result, arrived, 1514)
    assert len(result.files) > 10 * arrived // 60_000
