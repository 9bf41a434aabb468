"""`xdpcap record`: options are taken as they say, or one line and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import one_line, raising, run, session_double, xdpcap

from xdpcap.cli.options import SectionOption
from xdpcap.cli.record import record_command
from xdpcap.errors import UsageError, XdpcapError
from xdpcap.options.program_argument import ProgramFile
from xdpcap.options.record import RecordOptions

BASE = RecordOptions(interfaces=("v0",), output="captures")
ARGV = ["record", "-i", "v0", "-o", "captures"]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for the recording: keeps the options, and ends as `ends` says."""
    return session_double(monkeypatch, "record")


def test_without_arguments_the_options_are_the_documented_default(session: Any) -> None:
    assert run(*ARGV) == 0
    assert session.called_with == [BASE]


@pytest.mark.parametrize(
    ("argv", "changes"),
    [
        (["--interface", "v1"], {"interfaces": ("v0", "v1")}),
        (["--queues", "0,2-3"], {"queues": (0, 2, 3)}),
        (["-p"], {"promiscuous": False}),
        (["--no-promiscuous-mode"], {"promiscuous": False}),
        (["-f", "tcp"], {"filter": "tcp"}),
        (["--filter", ""], {"filter": ""}),
        (["tcp", "port", "443"], {"filter": "tcp port 443"}),
        (["udp or tcp", "--unmatched", "drop"], {"filter": "udp or tcp", "unmatched": "drop"}),
        (["-s", "96"], {"snaplen": 96}),
        (["--snaplen", "64K"], {"snaplen": 65536}),
        (["--netns", "blue"], {"netns": "blue"}),
        (["--wait-link"], {"wait_link": True}),
        (["--output", "other"], {"output": "other"}),
        (["-w", "other"], {"output": "other"}),
        (["--format", "pcap"], {"format": "pcap"}),
        (["--name", "%F-{queue}-{sequence}"], {"name_template": "%F-{queue}-{sequence}"}),
        (["--flush-interval", "250ms"], {"flush_interval_s": 0.25}),
        (["--rotate-size", "1GB"], {"rotate_size_bytes": 10**9}),
        (["--rotate-packets", "10k"], {"rotate_packets": 10_000}),
        (["--rotate-interval", "1h30m"], {"rotate_interval_s": 5400.0}),
        (["-G", "60", "--rotate-align"], {"rotate_interval_s": 60.0, "rotate_align": True}),
        (["-G", "60", "--keep", "5"], {"rotate_interval_s": 60.0, "keep_files": 5}),
        (["-G", "60", "--keep-size", "1G"], {"rotate_interval_s": 60.0, "keep_size_bytes": 2**30}),
        (["--post-rotate", "gzip -9 '{}'"], {"post_rotate": ("gzip", "-9", "{}")}),
        (["-z", "a 'b c'"], {"post_rotate": ("a", "b c")}),
        (["-c", "1M"], {"count": 10**6}),
        (["--count", "7"], {"count": 7}),
        (["--duration", "30s"], {"duration_s": 30.0}),
        (["--max-size", "64MiB"], {"max_size_bytes": 64 << 20}),
        (["--attach", "native"], {"attach": "native"}),
        (["--zero-copy", "off"], {"zero_copy": "off"}),
        (["--bpf", "a.o:f"], {"bpf": {"v0": ProgramFile("a.o", "f")}}),
        (
            ["-i", "xdp:a.o::v1"],
            {"interfaces": ("v0", "v1"), "bpf": {"v1": ProgramFile("a.o")}},
        ),
        (["--priority", "7"], {"priority": 7}),
        (["--busy-poll"], {"busy_poll": True}),
        (["--fix-offloads"], {"fix_offloads": True}),
        (["--rss", "symmetric"], {"rss": "symmetric"}),
        (["--force"], {"force": True}),
        (["-Z", "nobody"], {"user": "nobody"}),
        (["--user", "nobody"], {"user": "nobody"}),
        (["--umem-size", "128MiB"], {"umem_size_bytes": 128 << 20}),
        (["--frame-size", "4K"], {"frame_size": 4096}),
        (["--ring-size", "4096"], {"ring_size": 4096}),
        (["--batch", "64"], {"batch": 64}),
        (["--hugepages"], {"hugepages": True}),
        (["--write-buffer", "4M"], {"write_buffer_bytes": 4 << 20}),
        (["--write-buffer-count", "16"], {"write_buffer_count": 16}),
        (["--stats-interval", "5"], {"stats_interval_s": 5.0}),
        (["-q"], {"quiet": True}),
        (["--quiet"], {"quiet": True}),
        (["--json"], {"json": True}),
    ],
)
def test_each_option_changes_its_field_and_no_other(
    session: Any, argv: list[str], changes: dict[str, Any]
) -> None:
    assert run(*ARGV, *argv) == 0
    assert session.called_with == [replace(BASE, **changes)]


def test_cpus_become_the_workers_cpus(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert run(*ARGV, "--cpus", "2-3,0") == 0
    assert session.called_with[0].cpus == (2, 3, 0)


def test_every_field_of_the_options_has_its_option() -> None:
    filled = {option.name for option in record_command.params if isinstance(option, SectionOption)}
    # A filter from a file is the filter.
    assert filled - {"filter_file"} == {field.name for field in fields(RecordOptions)}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--rotate-align"], "--rotate-interval"),
        (["--keep", "5"], "without rotation"),
        (["--keep-size", "5G"], "without rotation"),
        (["--keep-size", "1M", "--rotate-size", "2M"], "--keep-size 1MiB"),
        (["-o", "-", "--rotate-size", "1M"], "-o - with --rotate-size"),
        (["-o", "-", "--rotate-packets", "5"], "-o - with --rotate-packets"),
        (["-o", "-", "--rotate-interval", "5"], "-o - with --rotate-interval"),
        (["-o", "-", "--keep", "5"], "-o - with --keep"),
        (["-o", "-", "--keep-size", "5M"], "-o - with --keep-size"),
        (["-o", "-", "--post-rotate", "true"], "-o - with --post-rotate"),
        (["-o", "-", "--name", "x"], "-o - with --name"),
        (["-o", "-", "--json"], "-o - with --json"),
        (["--attach", "offload"], "AF_XDP can't be fed from an offloaded program"),
        (["--attach", "generic", "--zero-copy", "require"], "--attach generic"),
        (["--quiet", "--stats-interval", "5"], "--stats-interval"),
        (["--bpf", "a.o", "--dead-man", "1s"], "--dead-man with --bpf"),
        (["--bpf", "a.o", "--mirror"], "--mirror with --bpf"),
        (["-i", "xdp:a.o::v1", "--sample", "2"], "--sample with --bpf"),
        (["--priority", "-1"], "--priority -1: must be at least 0"),
        (["-i", "xdp:a.o:v1"], "xdp:FILE:NAME:INTERFACE"),
        (["-i", "xdp:a.o::v0"], "named twice"),
        (["-i", "v0"], "named twice"),
        (["--queues", "1,1"], "listed twice"),
        (["--ring-size", "1000"], "use 1024"),
        (["--umem-size", "1M", "--ring-size", "1024"], "fewer than the ring's 1024"),
        (["--count", "0"], "--count 0"),
        (["--name", "{nope}"], "no field {nope}"),
        (["--name", "a/b"], "'/'"),
        (["--post-rotate", ""], "empty command"),
        (["--unmatched", "drop"], "there is no filter"),
        (["--mirror", "--unmatched", "drop", "tcp"], "--mirror with --unmatched drop"),
        (["-f", "tcp", "udp"], "say it in one place"),
        (["-f", "tcp", "-F", "/dev/null"], "say it in one place"),
        (["-F", "/nonexistent"], "-F /nonexistent: No such file"),
    ],
)
def test_contradictory_options_are_one_line_and_exit_code_2(
    session: Any, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    assert run(*ARGV, *argv) == 2
    line = one_line(capsys)
    assert says in line
    assert "; " in line, f"no way out: {line}"
    assert session.called_with == []


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["record"], "no interface"),
        (["record", "-i", "v0"], "no output"),
        ([*ARGV, "--umem-size", "12Q"], "--umem-size: '12Q' is not a size"),
        ([*ARGV, "-c", "x"], "--count: 'x' is not a count"),
        ([*ARGV, "-G", "1x"], "--rotate-interval: '1x' is not a time"),
        ([*ARGV, "--queues", "3-1"], "--queues: '3-1' runs backwards"),
        ([*ARGV, "--post-rotate", "a 'b"], "no closing quotation"),
        ([*ARGV, "--ring-size", "1k"], "--ring-size: '1k' is not a valid integer"),
        ([*ARGV, "--bpf", ":f"], "--bpf: ':f' names no file"),
        ([*ARGV, "--attach", "x"], "--attach: 'x' is not one of"),
        ([*ARGV, "--rotate-siz", "5"], "--rotate-size"),
        ([*ARGV, "--frobnicate"], "no such option"),
        ([*ARGV, "-c"], "'-c' requires an argument; try 'xdpcap record --help'"),
        (["recrod"], "no such command 'recrod'"),
        (["--frobnicate"], "no such option"),
    ],
)
def test_what_can_not_be_parsed_is_one_line_and_exit_code_2(
    session: Any, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    assert run(*argv) == 2
    assert says in one_line(capsys)
    assert session.called_with == []


def test_packets_are_not_thrown_at_a_terminal(
    session: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("record", "-i", "v0", "-o", "-") == 2
    assert "terminal" in one_line(capsys)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert run("record", "-i", "v0", "-o", "-") == 0


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        (lambda: 0, 0),
        (lambda: 1, 1),
        (raising(UsageError("no interface 'x'; list them")), 2),
        (raising(XdpcapError("bind(v0): EBUSY; wait")), 1),
        (raising(KeyboardInterrupt()), 130),
        (raising(KeyError("x")), 1),
        (raising(OSError(28, "No space left on device")), 1),
        (raising(BrokenPipeError(32, "Broken pipe")), 1),
        (raising(SystemExit(3)), 3),
    ],
)
def test_the_exit_code_tells_how_the_session_ended(
    session: Any, capsys: pytest.CaptureFixture[str], ends: Callable[[], int], code: int
) -> None:
    session.ends = ends
    assert run(*ARGV) == code
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_is_its_own_words_on_one_line(
    session: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    session.ends = raising(XdpcapError("verifier:\n  R1 invalid\x1b[2J;  wait"))
    assert run(*ARGV) == 1
    assert one_line(capsys) == r"xdpcap: verifier:   R1 invalid\x1b[2J;  wait"


def test_a_mistake_of_the_program_shows_its_traceback_only_when_asked(
    session: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session.ends = raising(KeyError("lost"))
    monkeypatch.delenv("XDPCAP_DEBUG", raising=False)
    assert run(*ARGV) == 1
    line = one_line(capsys)
    assert "KeyError at command_line.py:" in line
    assert "XDPCAP_DEBUG=1" in line
    monkeypatch.setenv("XDPCAP_DEBUG", "1")
    assert run(*ARGV) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], ["record"], ["replay"], ["split"], ["interfaces"]])
def test_help_is_everywhere_and_fits_80_columns(
    capsys: pytest.CaptureFixture[str], command: list[str], option: str
) -> None:
    assert run(*command, option) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.startswith("Usage: xdpcap")
    assert max(map(len, output.out.splitlines())) <= 80


def test_the_help_has_a_heading_for_each_group_and_says_the_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run("record", "--help")
    text = capsys.readouterr().out
    positions = [text.index(f"\n{heading}") for heading in ("Files:", "Rotation:", "Memory of")]
    assert positions == sorted(positions)
    words = " ".join(text.split())
    for default in ("64MiB", "256", "1s", "pcapng", "auto"):
        assert f"[default: {default}]" in words
    assert "without it 4MiB, or 256KiB to memory" in words
    assert "Without it 2048, and 4096 in zero-copy mode where a packet has to fit one" in words
    assert "[default: ]" not in words
    assert "[default: False]" not in words


def test_versions_of_libraries_and_kernel_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("xdpcap ")
    assert os.uname().release in second
    assert "libbpf 0." in second or "libbpf 1." in second
    assert "libxdp 1." in second


def test_the_flags_for_a_program_of_ones_own_name_directories_that_have_the_headers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("--cflags") == 0
    flags = capsys.readouterr().out.split()
    assert all(flag.startswith("-I") and os.path.isdir(flag[2:]) for flag in flags)
    with open(f"{flags[0][2:]}/xdpcap_abi.h") as installed, open("bpf/xdpcap_abi.h") as ours:
        assert installed.read() == ours.read()


def test_the_program_itself_exits_2_with_one_line() -> None:
    done = xdpcap(*ARGV, "--attach", "offload", capture_output=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("xdpcap: --attach offload: ")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_stops_reading_is_no_error_to_tell() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = xdpcap("record", "--help", stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert done.stderr == ""
    assert done.returncode == 1


def test_output_that_meets_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = xdpcap("--version", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("stream", [1, 2])
def test_a_closed_output_stream_changes_no_exit_code(stream: int) -> None:
    command = f'exec "$0" -m xdpcap record {stream}>&-'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
