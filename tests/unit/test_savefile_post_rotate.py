"""The post-rotate command: what it is given, and how its failures are told."""

import os
import signal
import sys
import threading
import time

import pytest

from xdpcap.errors import UsageError
from xdpcap.savefile.directory import Directory
from xdpcap.savefile.post_rotate import PostRotate

PYTHON = sys.executable


@pytest.fixture
def reports():
    return []


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a file; touch owned $(id) 'x'.pcapng"
    path.write_bytes(b"capture")
    return str(path)


def run(argv, reports, *paths, timeout_s=20.0) -> PostRotate:
    runner = PostRotate(argv, reports.append)
    for path in paths:
        runner.submit(path)
    runner.close(timeout_s)
    return runner


def script(tmp_path, text: str) -> str:
    path = tmp_path / "command.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def wait_for(path, timeout_s=20.0, lines=1) -> str:
    deadline = time.monotonic() + timeout_s
    while not (path.exists() and path.read_text().count("\n") >= lines):
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)
    return path.read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-9"], ["-9", "{}"]),
        (["{}", "-o", "{}.zst", "$HOME"], ["{}", "-o", "{}.zst", "$HOME"]),
    ],
)
def test_the_command_gets_the_path_without_a_shell(tmp_path, file, reports, words, expected):
    out = tmp_path / "out"
    argv = [script(tmp_path, f'printf "%s\\n" "$@" > {out}'), *words]
    runner = run(argv, reports, file)
    assert out.read_text().splitlines() == [word.replace("{}", file) for word in expected]
    assert not (tmp_path / "owned").exists()
    assert (runner.failure_count, reports) == (0, [])


def test_files_are_given_one_at_a_time_in_their_order(tmp_path, reports):
    out = tmp_path / "out"
    command = script(tmp_path, f'echo "start $1" >> {out}; sleep 0.05; echo "end $1" >> {out}')
    files = [str(tmp_path / f"{number}.pcapng") for number in range(4)]
    for path in files:
        open(path, "wb").close()
    run([command], reports, *files)
    expected = [f"{step} {path}" for path in files for step in ("start", "end")]
    assert out.read_text().splitlines() == expected


def test_the_command_has_no_terminal_no_descriptors_and_a_session_of_its_own(
    tmp_path, file, reports
):
    out = tmp_path / "out"
    secret = os.open(file, os.O_RDONLY)
    os.set_inheritable(secret, True)
    text = (
        "import os, sys\n"
        "fds = sorted(int(n) for n in os.listdir('/proc/self/fd') if n != '3')\n"
        "lines = [fds, os.readlink('/proc/self/fd/0'), os.readlink('/proc/self/fd/1'),\n"
        "         os.getsid(0) == os.getpid()]\n"
        f"open({str(out)!r}, 'w').write('|'.join(map(str, lines)))\n"
    )
    run([PYTHON, "-c", text], reports, file)
    os.close(secret)
    assert out.read_text() == "[0, 1, 2]|/dev/null|/dev/null|True"
    assert reports == []


def test_a_failure_is_told_with_its_status_and_last_line_and_counted(tmp_path, file, reports):
    command = script(tmp_path, "echo out; echo first >&2; printf 'la\\033st\\n\\n' >&2; exit 3")
    runner = run([command, "{}"], reports, file, file)
    assert runner.failure_count == 2
    assert reports == [f"post-rotate: {command} '{quoted(file)}': exit status 3: la?st"] * 2


def quoted(path: str) -> str:
    return path.replace("'", "'\"'\"'")


def test_a_killed_command_is_told_by_its_signal(tmp_path, file, reports):
    run([script(tmp_path, "kill -KILL $$")], reports, file)
    assert len(reports) == 1
    assert reports[0].endswith(": killed by SIGKILL")


def test_a_failure_does_not_stop_the_next_file(tmp_path, file, reports):
    out = tmp_path / "out"
    other = tmp_path / "other.pcapng"
    other.write_bytes(b"")
    command = script(tmp_path, f'case "$1" in *other*) echo "$1" > {out};; *) exit 1;; esac')
    runner = run([command], reports, file, str(other))
    assert out.read_text() == f"{other}\n"
    assert runner.failure_count == 1


def test_a_program_that_is_not_there_is_a_usage_error_at_once(reports):
    with pytest.raises(UsageError, match=r"no program 'no-such-program' to run; "):
        PostRotate(["no-such-program", "-9"], reports.append)


def test_a_program_that_went_away_is_reported_and_counted(tmp_path, file, reports):
    command = script(tmp_path, "exit 0")
    runner = PostRotate([command], reports.append)
    os.unlink(command)
    runner.submit(file)
    runner.close(20)
    assert runner.failure_count == 1
    assert "No such file or directory" in reports[0]


def test_a_file_that_was_deleted_before_its_turn_is_reported(tmp_path, reports):
    runner = run([script(tmp_path, "exit 0")], reports, str(tmp_path / "gone"))
    assert runner.failure_count == 1
    assert "deleted or moved before its turn" in reports[0]


def test_submitting_never_waits_and_what_does_not_fit_is_reported(tmp_path, file, reports):
    started = tmp_path / "started"
    command = script(tmp_path, f"echo $$ > {started}; exec sleep 60")
    runner = PostRotate([command], reports.append, queue_limit=2)
    runner.submit(file)
    pid = int(wait_for(started))
    before = time.monotonic()
    for _ in range(5):
        runner.submit(file)
    assert time.monotonic() - before < 1
    assert runner.failure_count == 3
    assert reports == [f"post-rotate: {file} was left out: 2 files are waiting already"] * 3
    runner.close(0.1)
    os.kill(pid, signal.SIGKILL)


def test_closing_waits_a_bounded_time_and_what_is_left_goes_on_one_at_a_time(
    tmp_path, file, reports
):
    started, log = tmp_path / "started", tmp_path / "log"
    command = script(
        tmp_path,
        f'test -e {started} || {{ echo $$ > {started}; exec sleep 60; }}; echo "$1" >> {log}',
    )
    others = [str(tmp_path / f"{number} $(id).pcapng") for number in range(5)]
    runner = PostRotate([command], reports.append)
    for path in [file, *others]:
        runner.submit(path)
    pid = int(wait_for(started))
    before = time.monotonic()
    runner.close(0.3)
    assert 0.2 < time.monotonic() - before < 5
    runner.close(0.3)
    (line,) = reports
    head = f"post-rotate: left running: {command} '{quoted(file)}'; 5 files wait behind it, "
    assert line.startswith(f"{head}seen to by process ")
    assert runner.failure_count == 0
    os.kill(pid, 0)  # still running, as it says
    time.sleep(0.3)
    assert not log.exists()  # the next one waits for it
    os.kill(pid, signal.SIGKILL)
    assert wait_for(log, lines=5).splitlines() == others


def test_the_directory_runs_the_command_on_complete_files_only(tmp_path, reports):
    out = tmp_path / "out"
    records = tmp_path / "records"
    records.mkdir()
    command = script(tmp_path, f'echo "$1" >> {out}; cat "$1" >> {out}')
    directory = Directory(str(records), report=reports.append, post_rotate=[command])
    parts = [directory.open_part(lambda sequence: f"{sequence}.pcapng") for _ in range(3)]
    for part in parts:
        os.write(part.fd, b"whole\n")
    directory.complete(parts[0], 1)
    directory.discard(parts[1])
    directory.close()
    directory.close()
    assert out.read_text() == f"{records}/1.pcapng\nwhole\n"
    assert directory.post_rotate_failure_count == 0
    assert reports == []


def test_no_thread_and_no_descriptor_is_left_after_closing(tmp_path, file, reports):
    # By Python's count: the kernel's may still know a thread that another test has joined.
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    run([script(tmp_path, "exit 1")], reports, file)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
