"""Signals, kills and disks that stop: what is on disk, and what is left attached."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from file_systems import small_ext4
from ledger_checks import Wire, check_books
from leftovers import attached, error_lines, load_on, missing, numbers_in

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import blast, send_frames

# What is promised is 2 seconds; a test machine may be busy with other things as well.
STOP_S = 3.0


# --- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_within_two_seconds_with_every_packet_on_disk(lab, record, number):
    recorder = record("--json")
    wire = Wire(lab)
    wire.blast(100_000)
    arrived = wire.arrived()
    result = recorder.stop(number)
    assert result.returncode == 0
    assert result.seconds < STOP_S
    assert check_books(result)["written"] == arrived
    assert [path.suffix for path in result.files] == [".pcapng"]
    assert attached(lab) is None


def test_a_signal_under_full_load_ends_within_two_seconds_and_balances(lab, record):
    recorder = record("--json")
    load = load_on(lab)
    try:
        recorder.wait_for(lambda: lab.statistics()["rx_packets"] > 100_000)
        result = recorder.stop()
    finally:
        load.kill()
        load.wait()
    assert result.returncode == 0
    assert result.seconds < STOP_S
    assert check_books(result)["written"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_leaves_nothing_behind(lab, record, number):
    # Not at once: a signal during the start of Python itself is for Python to lose.
    for delay_s in (0.05, 0.08, 0.1, 0.15):
        recorder = record("--json", ready=False)
        # Python's own start is over; the command line is being imported.
        maps = Path(f"/proc/{recorder.process.pid}/maps")
        recorder.wait_for(lambda maps=maps: "_datetime" in maps.read_text())
        time.sleep(delay_s)
        result = recorder.stop(number)
        assert result.returncode in (0, -number), result.stderr
        assert "Traceback" not in result.stderr
        assert attached(lab) is None
        assert all(path.suffix == ".pcapng" for path in result.files)


def test_sighup_goes_on_in_new_files(lab, record):
    recorder = record("--json")
    send_frames(lab, [numbered_frame(60, 1)])
    recorder.send_signal(signal.SIGHUP)
    recorder.wait_for(lambda: len(list(recorder.directory.glob("*-000002.pcapng.part"))) == 1)
    send_frames(lab, [numbered_frame(60, 2)])
    result = recorder.stop()
    check_books(result)
    assert [numbers_in([path]) for path in result.files] == [[1], [2]]


@pytest.fixture
def record_to_nobody(record):
    """A recorder whose standard output is a pipe that nobody reads."""
    reader, writer = os.pipe()

    def start(*arguments, **options):
        return record(*arguments, output="-", preexec=lambda: os.dup2(writer, 1), **options)

    yield start
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("queues", [1, 4])
def test_a_reader_that_has_stopped_reading_holds_up_a_stop_for_a_moment_only(
    make_lab, record_to_nobody, queues
):
    lab = make_lab(queues=queues)
    recorder = record_to_nobody(lab=lab)
    for queue in range(queues):
        send_frames(lab, (numbered_frame(1514, n) for n in range(3000)), queue)
    result = recorder.stop()
    assert result.seconds < STOP_S
    assert result.returncode == 1
    assert attached(lab) is None
    assert "Traceback" not in result.stderr


def test_a_second_signal_leaves_at_once(lab, record_to_nobody):
    recorder = record_to_nobody()
    send_frames(lab, (numbered_frame(1514, n) for n in range(3000)))
    recorder.send_signal(signal.SIGINT)
    recorder.wait_for(lambda: attached(lab) is None)
    result = recorder.stop()
    assert result.returncode == 128 + signal.SIGINT
    assert result.seconds < 0.5


@contextlib.contextmanager
def frozen(directory, thaw_s):
    """The file system frozen, so that whoever writes to it waits, for `thaw_s` seconds at most."""
    subprocess.run(["fsfreeze", "--freeze", directory], check=True)
    thaw = threading.Timer(thaw_s, subprocess.run, [["fsfreeze", "--unfreeze", directory]])
    thaw.start()
    try:
        yield
    finally:
        thaw.join()


def test_a_disk_that_takes_nothing_holds_up_a_stop_for_a_moment_only(lab, record, tmp_path):
    with small_ext4(tmp_path / "small", "64M") as directory:
        recorder = record("--json", directory=directory)
        wire = Wire(lab)
        wire.blast(3000, 1514)
        with frozen(directory, 4.0):
            wire.blast(20_000, 1514)
            arrived = wire.arrived()
            recorder.send_signal(signal.SIGINT)
            recorder.wait_for(lambda: attached(lab) is None, STOP_S)
            recorder.wait_for(lambda: "the disk did not take the last blocks" in recorder.stderr)
        # Until the thaw the kernel keeps the process: its writes can't be called back.
        result = recorder.stop(None)
    total = result.total
    assert result.returncode == 1
    assert total["seen"] == total["received"] == arrived
    assert total["received"] == total["written"] + total["write_dropped"]
    assert total["unaccounted"] == 0
    assert [path.suffix for path in result.files] == [".part"]


def test_a_disk_that_sticks_in_the_middle_of_a_rotation_crashes_nothing(lab, record, tmp_path):
    with small_ext4(tmp_path / "small", "64M") as directory:
        blocks = ("--write-buffer", "4MiB", "--write-buffer-count", "8")
        recorder = record("--json", *blocks, "--rotate-size", "4MiB", directory=directory)
        blast(lab, 3000, 1514)
        with frozen(directory, 7.0):
            blast(lab, 20_000, 1514)
            time.sleep(0.3)
            recorder.send_signal(signal.SIGINT)
            recorder.wait_for(lambda: attached(lab) is None, STOP_S)
            recorder.wait_for(
                lambda: "queue 0 does not stop; is the disk stuck?" in recorder.stderr
            )
        result = recorder.stop(None)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


# --- kill -9


def test_kill_leaves_no_program_and_files_readable_up_to_the_last_flush(lab, record):
    recorder = record("--flush-interval", "200ms")
    send_frames(lab, [numbered_frame(100, number) for number in range(500)])
    time.sleep(0.6)
    send_frames(lab, [numbered_frame(100, number) for number in range(500, 510)])
    result = recorder.stop(signal.SIGKILL)
    recorder.wait_for(lambda: attached(lab) is None)
    (part,) = result.files
    assert part.suffix == ".part"
    numbers = numbers_in([part], tolerant=True)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 500


def test_kill_under_full_load_leaves_whole_records_in_order(lab, record):
    recorder = record("--flush-interval", "100ms")
    blast(lab, 200_000, 200)
    result = recorder.stop(signal.SIGKILL)
    recorder.wait_for(lambda: attached(lab) is None)
    numbers = numbers_in(result.files, tolerant=True)
    assert missing(numbers, lab.statistics()["tx_dropped"]) == 0
    assert len(numbers) > 100_000


def test_the_start_after_a_kill_tells_of_the_unfinished_file_and_leaves_it_alone(lab, record):
    killed = record("--flush-interval", "100ms")
    send_frames(lab, [numbered_frame(60, 1)])
    time.sleep(0.3)
    (part,) = killed.stop(signal.SIGKILL).files
    before = part.read_bytes()
    recorder = record("--json")
    (told,) = [line for line in recorder.stderr.splitlines() if "unfinished" in line]
    assert told.startswith("xdpcap: 1 unfinished file of an earlier recording here")
    assert str(part) in told
    send_frames(lab, [numbered_frame(60, 2)])
    result = recorder.stop()
    check_books(result)
    assert part.read_bytes() == before
    assert numbers_in([p for p in result.files if p != part]) == [2]


# --- the directory


def test_a_directory_that_is_deleted_is_told_of_at_the_rotation(lab, record, tmp_path):
    directory = tmp_path / "doomed"
    recorder = record("--json", "--rotate-packets", "10", directory=directory)
    send_frames(lab, [numbered_frame(60, 1)])
    subprocess.run(["rm", "-r", directory], check=True)
    send_frames(lab, [numbered_frame(60, number) for number in range(20)])
    result = recorder.wait()
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert len(error_lines(result)) in (1, 2)
    assert all(str(directory) in line and "put it back" in line for line in error_lines(result))
    assert attached(lab) is None


@pytest.mark.parametrize("format", ["pcapng", "pcap"])
def test_a_file_size_limit_ends_the_recording_with_whole_records(lab, record, format):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))

    recorder = record("--json", "--format", format, preexec=limit)
    blast(lab, 20_000, 1000)
    result = recorder.wait()
    assert result.returncode == 1
    (line,) = error_lines(result)
    assert "File too large; raise the file-size limit with `ulimit -f`" in line
    total = check_books(result)
    assert total["write_dropped"] > 0
    assert missing(numbers_in(result.files), lab.statistics()["tx_dropped"]) == 0
    assert total["written"] > 1000


def test_descriptors_that_run_out_while_recording_end_it_with_whole_files(lab, record):
    recorder = record("--json")
    send_frames(lab, [numbered_frame(60, number) for number in range(100)])
    pid = recorder.process.pid
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, 8))
    recorder.send_signal(signal.SIGHUP)
    result = recorder.wait()
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    (line,) = error_lines(result)
    assert "too many open files; raise the limit with ulimit -n" in line
    assert check_books(result)["written"] == 100
    assert numbers_in(result.files) == list(range(100))
    assert attached(lab) is None
