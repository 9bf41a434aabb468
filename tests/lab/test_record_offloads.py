"""--fix-offloads: what is turned off for a recording is on again after it, whatever happened."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from file_systems import directory_of_nobody

from xdpcap.bench.lab import in_netns
from xdpcap.net import offloads


def sender_offloads(lab):
    """Every feature of the sender, whose offloads are what spoils a capture on a veth."""
    return in_netns(lab.tx_ns, offloads.features, "tx0")


def guardians(pid):
    """The processes that a recorder has started."""
    children = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        children |= set(map(int, (task / "children").read_text().split()))
    return [child for child in children if b"xdpcap.net.guardian" in cmdline(child)]


def cmdline(pid):
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@pytest.fixture
def spoiled(make_lab):
    """A lab whose sender leaves checksums and VLAN tags to a device that there is not."""
    lab = make_lab(offloads=True)
    assert sender_offloads(lab)["tx-checksum-ip-generic"]
    return lab


def end_by_signal(recorder, number):
    recorder.send_signal(number)


def end_by_ctrl_c(recorder, number):
    os.killpg(recorder.process.pid, number)


@pytest.mark.parametrize(
    ("end", "number"),
    [
        (end_by_signal, signal.SIGINT),
        (end_by_signal, signal.SIGKILL),
        (end_by_ctrl_c, signal.SIGINT),
        (end_by_ctrl_c, signal.SIGHUP),
    ],
)
def test_offloads_that_were_turned_off_are_on_again_however_it_ends(spoiled, record, end, number):
    before = sender_offloads(spoiled)
    recorder = record("--json", "--fix-offloads", lab=spoiled, preexec=os.setsid)
    during = sender_offloads(spoiled)
    assert not during["tx-checksum-ip-generic"] and not during["tx-vlan-hw-insert"]
    (guardian,) = guardians(recorder.process.pid)
    end(recorder, number)
    if number == signal.SIGHUP:
        # It only means new files; the terminal's other processes do not outlive it.
        time.sleep(0.2)
        assert sender_offloads(spoiled) == during
        recorder.send_signal(signal.SIGINT)
    recorder.stop(None)
    recorder.wait_for(lambda: sender_offloads(spoiled) == before)
    recorder.wait_for(lambda: not cmdline(guardian))


def test_an_offload_that_was_off_before_stays_off(spoiled, record):
    command = ["ip", "netns", "exec", spoiled.tx_ns, "ethtool", "-K", "tx0", "txvlan", "off"]
    subprocess.run(command, check=True, capture_output=True)
    before = sender_offloads(spoiled)
    recorder = record("--json", "--fix-offloads", lab=spoiled)
    assert not sender_offloads(spoiled)["tx-checksum-ip-generic"]
    result = recorder.stop()
    assert sender_offloads(spoiled) == before
    assert "turned off tx-checksumming of tx0" in result.stderr
    assert "turned off tx-vlan-offload" not in result.stderr


def test_offloads_are_restored_when_the_recording_can_not_begin(spoiled, record, tmp_path):
    before = sender_offloads(spoiled)
    directory = directory_of_nobody(tmp_path)
    os.chown(directory, 0, 0)
    options = {"lab": spoiled, "directory": directory, "ready": False}
    result = record("--fix-offloads", "--user", "nobody", **options).wait()
    assert result.returncode == 2
    assert "turned off tx-checksumming of tx0" in result.stderr
    assert "not writable" in result.stderr
    assert sender_offloads(spoiled) == before


def test_offloads_are_restored_by_root_when_the_recorder_gave_it_up(spoiled, record, tmp_path):
    before = sender_offloads(spoiled)
    directory = directory_of_nobody(tmp_path)
    recorder = record("--fix-offloads", "--user", "nobody", lab=spoiled, directory=directory)
    assert sender_offloads(spoiled) != before
    assert recorder.stop().returncode == 0
    assert sender_offloads(spoiled) == before


def test_a_kill_at_any_moment_of_the_start_leaves_no_offload_off(spoiled, record):
    before = sender_offloads(spoiled)
    for delay_s in (0.0, 0.02, 0.05, 0.1, 0.2):
        recorder = record("--fix-offloads", lab=spoiled, ready=False)
        # The first thing that tells of them is said once they are off.
        recorder.wait_for(lambda r=recorder: "turned off" in r.stderr)
        time.sleep(delay_s)
        recorder.kill()
        recorder.wait_for(lambda: sender_offloads(spoiled) == before)


def test_a_guardian_that_was_killed_is_stood_in_for(spoiled, record):
    before = sender_offloads(spoiled)
    recorder = record("--fix-offloads", lab=spoiled)
    (guardian,) = guardians(recorder.process.pid)
    os.kill(guardian, signal.SIGKILL)
    assert recorder.stop().returncode == 0
    assert sender_offloads(spoiled) == before
