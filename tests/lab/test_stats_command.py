"""`xdpcap stats`: a running recording's counters, seen from another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked_command
import pytest
from file_systems import directory_of_nobody
from ledger_checks import check_books
from recorder import Recorder

from xdpcap.bench.lab import Lab, in_netns
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.programs.pinned_counters import BPFFS

PINS = BPFFS / "xdpcap"


def frames(count: int, size: int = 100) -> list[bytes]:
    return [numbered_frame(size, number) for number in range(count)]


def place(lab: Lab) -> Path:
    """Where a recording of rx0 in a lab's receiver has its pins."""
    return PINS / f"netns:{os.stat(f'/run/netns/{lab.rx_ns}').st_ino}" / "rx0"


def run(netns: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`xdpcap stats ARGUMENTS...` in a namespace, to its end."""

    def start() -> subprocess.CompletedProcess[str]:
        process = forked_command.start(
            ["stats", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        stdout, stderr = process.communicate(timeout=30)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    return start() if netns is None else in_netns(netns, start)


def stats(lab: Lab, *arguments: str) -> list[dict[str, Any]]:
    result = run(lab.rx_ns, "--json", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


def gone(directory: Path, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not directory.exists()


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    """A lab in which no recording leaves a pin, whatever its end."""
    lab = make_lab()
    yield lab
    assert gone(place(lab))


def test_another_process_reads_what_the_program_counts_to_the_packet(lab, record):
    recorder = record("--json")
    send_frames(lab, frames(150))
    [found] = stats(lab, "-i", "rx0")
    assert (found["interface"], found["pid"]) == ("rx0", recorder.process.pid)
    [queue] = found["queues"]
    assert (queue["queue"], queue["seen"]) == (0, 150)
    assert (queue["redirected"], queue["redirected_bytes"]) == (150, 150 * 100)
    assert {queue[name] for name in ("passed", "filtered", "ring_lost")} == {0}
    total = check_books(recorder.stop())
    assert found["total"]["redirected"] == total["redirected"] == 150


def test_queues_that_are_not_recorded_show_what_passed_there(make_lab, record):
    lab = make_lab(queues=2, generic=True)
    recorder = record("--json", "--queues", "1", lab=lab)
    send_frames(lab, frames(30), 0)
    send_frames(lab, frames(70), 1)
    [found] = stats(lab)
    rows = {row["queue"]: row for row in found["queues"]}
    assert (rows[0]["passed"], rows[0]["redirected"]) == (30, 0)
    assert (rows[1]["passed"], rows[1]["redirected"]) == (0, 70)
    assert found["total"]["seen"] == check_books(recorder.stop())["seen"]


def test_the_table_has_columns_for_what_has_happened_only(lab, record):
    recorder = record()
    send_frames(lab, frames(1234))
    result = run(lab.rx_ns)
    head, row = result.stdout.splitlines()[0], result.stdout.splitlines()[2]
    assert head.split() == ["rx0", "seen", "redirected", "bytes"]
    assert row.split() == ["q0", "1", "234", "1", "234", "123", "400"]
    assert f"process {recorder.process.pid}" in result.stdout
    recorder.stop()


def test_no_recorder_is_one_line_and_exit_code_1(lab):
    for arguments, told in (((), "no recorder;"), (("-i", "rx0"), "no recorder on rx0;")):
        result = run(lab.rx_ns, *arguments)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith(f"xdpcap: {told}") and result.stderr.count("\n") == 1


def test_a_namespace_shows_its_own_recordings_only(make_lab, record, tmp_path):
    ours, theirs = make_lab(), make_lab()
    first = record(lab=ours, directory=tmp_path / "ours")
    second = record(lab=theirs, directory=tmp_path / "theirs")
    send_frames(theirs, frames(10))
    assert [r["pid"] for r in stats(ours)] == [first.process.pid]
    [found] = stats(theirs)
    assert (found["pid"], found["total"]["seen"]) == (second.process.pid, 10)
    named = run(None, "--json", "--netns", theirs.rx_ns)
    assert json.loads(named.stdout)[0]["pid"] == second.process.pid
    first.stop()
    second.stop()
    assert not place(ours).exists() and not place(theirs).exists()


def test_ip_netns_exec_sees_a_recording_made_outside_of_it_and_the_other_way_round(lab, record):
    recorder = record()
    send_frames(lab, frames(5))
    command = ["ip", "netns", "exec", lab.rx_ns, *forked_command.COMMAND, "stats", "--json"]
    found = subprocess.run(
        command, cwd=forked_command.ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(found.stdout)[0]["total"]["redirected"] == 5
    recorder.stop()


def test_a_recorder_that_gave_up_root_leaves_no_pins(lab, record, tmp_path):
    directory = directory_of_nobody(tmp_path)
    recorder = record("--json", "--user", "nobody", directory=directory)
    assert stats(lab)[0]["pid"] == recorder.process.pid
    assert recorder.stop().returncode == 0
    assert not place(lab).exists()


def test_the_pins_of_a_killed_recorder_go_at_once(lab, record):
    recorder = record()
    assert place(lab).exists()
    recorder.kill()
    assert gone(place(lab))
    assert run(lab.rx_ns, "-i", "rx0").returncode == 1


def shell_of(recorder: Recorder) -> int:
    """The process that takes the pins away."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if command.startswith(b"/bin/sh\0-c\0trap") and int(parent) == recorder.process.pid:
            return int(entry.name)
    raise AssertionError("no shell")


def test_pins_that_nobody_took_away_are_swept_by_stats(lab, record):
    recorder = record()
    os.kill(shell_of(recorder), signal.SIGKILL)
    recorder.kill()
    assert place(lab).exists()
    result = run(lab.rx_ns, "-i", "rx0")
    assert result.returncode == 1 and result.stderr.startswith("xdpcap: no recorder on rx0;")
    assert not place(lab).exists()


def test_pins_that_nobody_took_away_are_replaced_by_the_next_recording(lab, record):
    recorder = record()
    os.kill(shell_of(recorder), signal.SIGKILL)
    recorder.kill()
    successor = record("--json")
    send_frames(lab, frames(3))
    [found] = stats(lab)
    assert (found["pid"], found["total"]["seen"]) == (successor.process.pid, 3)
    assert check_books(successor.stop())["written"] == 3


def test_the_end_takes_the_pins_away_when_the_shell_was_killed(lab, record):
    recorder = record()
    os.kill(shell_of(recorder), signal.SIGKILL)
    assert recorder.stop().returncode == 0
    assert not place(lab).exists()


def test_a_recording_whose_name_has_a_dot_is_found(lab, record):
    for words in ("rx0 down", "rx0 name d.7", "d.7 up"):
        in_netns(lab.rx_ns, subprocess.run, ["ip", "link", "set", *words.split()], check=True)
    recorder = record(interfaces=("d.7",))
    assert stats(lab, "-i", "d.7")[0]["interface"] == "d.7"
    assert place(lab).with_name("d%2E7").exists()
    recorder.stop()
    assert not place(lab).with_name("d%2E7").exists()


def test_watching_shows_rates_and_ends_with_the_recording(lab, record):
    recorder = record()

    def start() -> subprocess.Popen[str]:
        return forked_command.start(
            ["stats", "--json", "--watch", "200ms"], stdout=subprocess.PIPE, text=True
        )

    watching = in_netns(lab.rx_ns, start)
    assert watching.stdout is not None
    first = json.loads(watching.stdout.readline())[0]
    assert first["total"]["seen"] == 0 and "packets_per_s" not in first["total"]
    send_frames(lab, frames(500))
    rows = []
    while not rows or rows[-1]["seen"] < 500:
        rows.append(json.loads(watching.stdout.readline())[0]["total"])
    assert max(row["packets_per_s"] for row in rows) > 0
    recorder.stop()
    watching.communicate(timeout=10)
    assert watching.returncode == 0


def test_a_recording_goes_on_where_nothing_can_be_pinned(lab, record):
    # A file where the directory should be: what a read-only or foreign BPF file system does.
    place(lab).parent.mkdir(parents=True, exist_ok=True)
    os.symlink("x", place(lab))
    try:
        recorder = record("--json")
        send_frames(lab, frames(4))
        result = recorder.stop()
    finally:
        place(lab).unlink(missing_ok=True)
        place(lab).parent.rmdir()
    assert check_books(result)["written"] == 4
    told = [line for line in result.stderr.splitlines() if "not shown to `xdpcap stats`" in line]
    assert len(told) == 1
