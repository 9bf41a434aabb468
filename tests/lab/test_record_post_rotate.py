"""The command that is run on each complete file, while recording and at its end."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest
from capture_files import numbers, wait_for_files

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import send_frames


@pytest.fixture
def command(tmp_path):
    """A factory of programs: a shell script of these lines."""

    def make(*lines: str) -> Path:
        path = tmp_path / "after rotation"  # a space, which a shell would split at
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return make


def frames(count, first=0):
    return [numbered_frame(60, number) for number in range(first, first + count)]


def test_each_complete_file_is_handed_over_once_in_order_and_whole(lab, record, command, tmp_path):
    log = tmp_path / "log"
    # What it gets is complete: its length does not change while the command looks at it.
    script = command(f'echo "$#|$1|$(stat -c %s "$1")" >> {log}')
    recorder = record("--json", "--rotate-packets", "10", "--post-rotate", f"'{script}'")
    send_frames(lab, frames(25))
    recorder.wait_for(lambda: log.exists() and log.read_text().count("\n") == 2)
    result = recorder.stop()
    assert result.returncode == 0, result.stderr
    expected = [f"1|{path}|{path.stat().st_size}" for path in result.files]
    assert len(expected) == 3
    assert log.read_text().splitlines() == expected


def test_the_path_stands_where_the_braces_are_and_nothing_goes_through_a_shell(
    lab, record, command, tmp_path
):
    log = tmp_path / "log"
    script = command(f'printf "%s\\n" "$@" >> {log}')
    recorder = record("--post-rotate", f"'{script}' 'a b' {{}} '$HOME;' c")
    send_frames(lab, frames(1))
    (path,) = recorder.stop().files
    assert log.read_text().splitlines() == ["a b", str(path), "$HOME;", "c"]


def test_the_command_may_move_the_file_away(lab, record, command, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    script = command(f'mv "$1" {tmp_path}/elsewhere/')
    recorder = record("--json", "--rotate-packets", "10", "--post-rotate", f"'{script}'")
    send_frames(lab, frames(30))
    result = recorder.stop()
    assert result.returncode == 0, result.stderr
    assert result.files == []
    moved = sorted((tmp_path / "elsewhere").iterdir())
    assert numbers(moved) == list(range(30))
    assert [file["packets"] for file in result.report["files"]] == [10, 10, 10]


def test_a_command_that_fails_is_reported_with_what_it_said_and_recording_goes_on(
    lab, record, command
):
    script = command("echo no space on the backup disk >&2", "exit 3")
    recorder = record("--json", "--rotate-packets", "10", "--post-rotate", f"'{script}'")
    send_frames(lab, frames(15))
    (first,) = wait_for_files(recorder, 1)
    recorder.wait_for(lambda: "no space on the backup disk" in recorder.stderr)
    send_frames(lab, frames(10, first=15))
    result = recorder.stop()
    assert numbers(result.files) == list(range(25))
    lines = [line for line in result.stderr.splitlines() if "no space on the backup disk" in line]
    assert len(lines) == 3
    assert all("3" in line and "after rotation" in line for line in lines)
    assert str(first) in lines[0]


def test_a_command_that_hangs_holds_up_neither_the_recording_nor_the_files(
    lab, record, command, tmp_path
):
    pid, log = tmp_path / "pid", tmp_path / "log"
    script = command(f"test -e {pid} || {{ echo $$ > {pid}; exec sleep 60; }}", f"echo $1 >> {log}")
    recorder = record("--json", "--rotate-packets", "10", "--post-rotate", f"'{script}'")
    send_frames(lab, frames(50))
    files = wait_for_files(recorder, 4)
    assert numbers(files) == list(range(40))
    recorder.wait_for(pid.exists)
    result = recorder.stop()
    assert result.seconds < 2.0
    assert numbers(result.files) == list(range(50))
    assert f"left running: '{script}'" in result.stderr and "4 files wait" in result.stderr
    # The others have their turn when it has ended, without the recorder.
    assert not log.exists()
    os.kill(int(pid.read_text()), signal.SIGKILL)
    recorder.wait_for(lambda: log.exists() and log.read_text().count("\n") == 4)
    assert log.read_text().splitlines() == [str(path) for path in result.files[1:]]


def test_a_program_that_is_not_there_is_refused_before_anything_is_opened(lab, record):
    result = record("--post-rotate", "/no/such/program", ready=False).wait()
    assert result.returncode == 2
    assert "no program '/no/such/program'" in result.stderr
    assert result.files == []
