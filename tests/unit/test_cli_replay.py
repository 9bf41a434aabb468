"""`xdpcap replay`: options are taken as they say, or one line and exit code 2."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import one_line, raising, run, session_double, xdpcap

from xdpcap.cli.options import SectionOption
from xdpcap.cli.replay import replay_command
from xdpcap.errors import UsageError, XdpcapError
from xdpcap.options.replay import ReplayOptions
from xdpcap.options.times import NS

BASE = ReplayOptions(files=("a.pcap",), interface="v0")
ARGV = ["replay", "a.pcap", "-i", "v0"]
MAC = b"\x02\0\0\0\0\1"


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for the replay: keeps the options, and ends as `ends` says."""
    return session_double(monkeypatch, "replay")


def test_without_arguments_the_options_are_the_documented_default(session: Any) -> None:
    assert run(*ARGV) == 0
    assert session.called_with == [BASE]


@pytest.mark.parametrize(
    ("argv", "changes"),
    [
        (["b.pcap", "-"], {"files": ("a.pcap", "b.pcap", "-")}),
        (["-I", "v1", "--split", "::/0"], {"second_interface": "v1", "split": "::/0"}),
        (["--second-interface=v1", "--split=x"], {"second_interface": "v1", "split": "x"}),
        (["--netns", "blue"], {"netns": "blue"}),
        (["--queues", "0,2-3"], {"queues": (0, 2, 3)}),
        (["--preload"], {"preload": True}),
        (["--no-preload"], {"preload": False}),
        (["--preload-bound", "64MiB"], {"preload_bound_bytes": 64 << 20}),
        (["--pad"], {"pad": True}),
        (["--strict"], {"strict": True}),
        (["--speed", "2.5"], {"speed": 2.5}),
        (["-x", "2.5"], {"speed": 2.5}),
        (["--pps", "10k"], {"pps": 10_000.0}),
        (["-p", "0.5"], {"pps": 0.5}),
        (["--mbps", "1.5k"], {"mbps": 1500.0}),
        (["-M", "2.5"], {"mbps": 2.5}),
        (["--top-speed"], {"top_speed": True}),
        (["-t"], {"top_speed": True}),
        (["--gap-limit", "250ms"], {"gap_limit_s": 0.25}),
        (["--timer", "sleep"], {"timer": "sleep"}),
        (["--launch-time"], {"launch_time": True}),
        (["--late", "100us"], {"late_s": 0.0001}),
        (["--loop", "1k"], {"loop": 1000}),
        (["-l", "0"], {"loop": 0}),
        (["--limit", "1M"], {"limit": 10**6}),
        (["-L", "7"], {"limit": 7}),
        (["--duration", "1h30m"], {"duration_s": 5400.0}),
        (["--dst-mac", "02:00:00:00:00:01"], {"dst_mac": MAC}),
        (["--src-mac", "0200.0000.0001"], {"src_mac": MAC}),
        (["--vlan", "add:5"], {"vlan": "add:5"}),
        (
            ["--map-ip", "10.0.0.0/8:11.0.0.0/8", "--map-ip", "::1:::2"],
            {"map_ip": ("10.0.0.0/8:11.0.0.0/8", "::1:::2")},
        ),
        (["--seed", "42"], {"seed": 42}),
        (["--attach", "none"], {"attach": "none"}),
        (["--zero-copy", "require"], {"zero_copy": "require"}),
        (["--force"], {"force": True}),
        (["--umem-size", "64MiB"], {"umem_size_bytes": 64 << 20}),
        (["--frame-size", "4K"], {"frame_size": 4096}),
        (["--ring-size", "4096"], {"ring_size": 4096}),
        (["--batch", "32"], {"batch": 32}),
        (["--verify", "blue:v1"], {"verify": "blue:v1"}),
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


@pytest.mark.parametrize(
    ("habit", "option"),
    [
        (["-K"], ["--preload"]),
        (["--preload-pcap"], ["--preload"]),
        (["--topspeed"], ["--top-speed"]),
        (["--multiplier=2"], ["--speed=2"]),
        (["--intf2=v1", "--split=::/0"], ["-I", "v1", "--split=::/0"]),
        (["--enet-dmac=020000000001"], ["--dst-mac=020000000001"]),
        (["--enet-smac=020000000001"], ["--src-mac=020000000001"]),
    ],
)
def test_habits_from_tcpreplay_work(session: Any, habit: list[str], option: list[str]) -> None:
    assert run(*ARGV, *habit) == 0
    assert run(*ARGV, *option) == 0
    assert session.called_with[0] == session.called_with[1]
    assert run("replay", "--intf1=v0", "a.pcap") == 0
    assert session.called_with[2] == BASE


def test_the_first_packets_time_counts_from_now(session: Any) -> None:
    before = time.time_ns()
    assert run(*ARGV, "--start-at", "+10s") == 0
    after = time.time_ns()
    assert before + 10 * NS <= session.called_with[0].start_at_ns <= after + 10 * NS


def test_cpus_become_the_senders_cpus(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert run(*ARGV, "--cpus", "2-3,0") == 0
    assert session.called_with[0].cpus == (2, 3, 0)


def test_every_field_of_the_options_has_its_option() -> None:
    filled = {option.name for option in replay_command.params if isinstance(option, SectionOption)}
    assert filled | {"files"} == {field.name for field in fields(ReplayOptions)}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--speed", "2", "--pps", "5"], "--speed with --pps"),
        (["--mbps", "2", "-t"], "--mbps with --top-speed"),
        (["--speed", "1", "--top-speed"], "--speed with --top-speed"),
        (["--pps", "0"], "use --top-speed"),
        (["--gap-limit", "1s", "--pps", "5"], "--gap-limit with --pps"),
        (["--launch-time", "-t"], "--launch-time with --top-speed"),
        (["--timer", "sleep", "-t"], "--timer with --top-speed"),
        (["--late", "5ms", "-t"], "--late with --top-speed"),
        (["-I", "v1"], "add --split"),
        (["--split", "10.0.0.0/8"], "add -I"),
        (["-I", "v0", "--split", "::/0"], "the same as -i"),
        (["-I", "v1", "--split", "::/0", "--verify", "v2"], "--verify with -I"),
        (["--verify", "v0"], "--verify v0"),
        (["-", "-"], "named twice"),
        (["-", "--loop", "2"], "--loop 2 with standard input"),
        (["-", "--loop", "0", "--no-preload"], "add --preload"),
        (["-", "--strict"], "--strict with standard input"),
        (["-", "-I", "v1", "--split", "x"], "a cache belongs to a file"),
        (["--preload", "--preload-bound", "5M"], "--preload-bound with --preload"),
        (["--no-preload", "--preload-bound", "5M"], "--preload-bound with --no-preload"),
        (["--attach", "generic", "--zero-copy", "require"], "--attach generic"),
        (["--quiet", "--stats-interval", "5"], "--stats-interval"),
        (["--queues", "1,1"], "listed twice"),
        (["--ring-size", "1000"], "use 1024"),
        (["--umem-size", "1M"], "fewer than the ring's 2048"),
        (["--limit", "0"], "--limit 0"),
        (["--vlan", "5000"], "--vlan: '5000'"),
        (["--map-ip", "10.0.0.0/8"], "not a pair of prefixes"),
        (["--seed", "-1"], "--seed -1"),
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
        (["replay"], "no file"),
        (["replay", "a.pcap"], "no interface"),
        (["replay", "-i", "v0"], "no file"),
        ([*ARGV, "--speed", "fast"], "--speed: 'fast' is not a number"),
        ([*ARGV, "-x", "-1"], "'-1' is not a number"),
        ([*ARGV, "--topspeed=5"], "--topspeed"),
        ([*ARGV, "--limit", "x"], "--limit: 'x' is not a count"),
        ([*ARGV, "--start-at", "noon"], "--start-at: 'noon' is not a time"),
        ([*ARGV, "--start-at", "@0"], "--start-at: '@0' has passed"),
        ([*ARGV, "--dst-mac", "x"], "--dst-mac: 'x' is not a MAC address"),
        ([*ARGV, "--enet-smac", "x"], "--src-mac: 'x' is not a MAC address"),
        ([*ARGV, "--timer", "gtod"], "--timer: 'gtod' is not one of"),
        ([*ARGV, "--seed", "x"], "--seed: 'x' is not a valid integer"),
        ([*ARGV, "--preload=1"], "--preload"),
        ([*ARGV, "-i"], "'-i' requires an argument; try 'xdpcap replay --help'"),
        ([*ARGV, "--frobnicate"], "no such option"),
    ],
)
def test_what_can_not_be_parsed_is_one_line_and_exit_code_2(
    session: Any, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    assert run(*argv) == 2
    assert says in one_line(capsys)
    assert session.called_with == []


def test_packets_are_not_typed_at_a_terminal(
    session: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keyboard = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(sys, "stdin", keyboard)
    assert run("replay", "-", "-i", "v0") == 2
    assert "standard input is a terminal" in one_line(capsys)
    keyboard.isatty = lambda: False
    assert run("replay", "-", "-i", "v0") == 0
    # Closed by the caller: what that means is the session's to find out.
    monkeypatch.setattr(sys, "stdin", None)
    assert run("replay", "-", "-i", "v0") == 0


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
        (raising(SystemExit(3)), 3),
    ],
)
def test_the_exit_code_tells_how_the_session_ended(
    session: Any, capsys: pytest.CaptureFixture[str], ends: Any, code: int
) -> None:
    session.ends = ends
    assert run(*ARGV) == code
    assert "Traceback" not in capsys.readouterr().err


def test_the_help_has_a_heading_for_each_group_and_says_the_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run("replay", "--help")
    text = capsys.readouterr().out
    headings = ("Where to:", "Reading:", "Pace ", "How much", "Changing", "Memory of", "Reports:")
    positions = [text.index(f"\n{heading}") for heading in headings]
    assert positions == sorted(positions)
    words = " ".join(text.split())
    for default in ("1GiB", "spin", "1ms", "1", "auto", "16MiB", "2048", "64", "1s"):
        assert f"[default: {default}]" in words
    for nothing in ("", "False", "None", "()"):
        assert f"[default: {nothing}]" not in words


def test_the_help_says_which_bits_the_rate_counts(capsys: pytest.CaptureFixture[str]) -> None:
    run("replay", "--help")
    words = " ".join(capsys.readouterr().out.split())
    assert "bits a second on the wire: with checksum, preamble and gap, 24 bytes a packet" in words


def test_names_from_tcpreplay_are_named_once_and_not_at_each_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run("replay", "--help")
    text = capsys.readouterr().out
    aliases = {
        name
        for option in replay_command.params
        if isinstance(option, SectionOption)
        for name in option.aliases
    }
    assert aliases
    assert all(text.count(name) == 1 for name in aliases)


def test_the_program_itself_exits_2_with_one_line() -> None:
    done = xdpcap(*ARGV, "--pps", "5", "--top-speed", capture_output=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "xdpcap: --pps with --top-speed: two paces at once; keep one of them\n"
