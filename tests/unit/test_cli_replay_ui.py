"""The terminal side of a replay: what goes where, and that nothing there can stop it."""

from __future__ import annotations

import json
import os
import sys

import pytest
from replay_session_facts import OPTIONS, VERIFIED, progress, report, screen, startup
from terminals import COLOUR, Gone, drive, drive_on_terminal

from xdpcap.cli.replay_ui import ReplayUi
from xdpcap.cli.terminal import StderrConsole


def test_quiet_says_nothing_when_nothing_is_wrong() -> None:
    with screen(quiet=True) as shown:
        shown.ui.startup(startup())
        shown.ui.start(1000, 10.0)
        shown.ui.tick(progress(1.0))
        shown.ui.finish(report(verify=VERIFIED))
    assert shown.lines == []


def test_quiet_still_tells_what_is_wrong() -> None:
    wrong = report(
        skipped={"too_long": 1, "too_short": 0},
        skipped_numbers={"too_long": [3]},
        tx_errors={"tx_dropped": 2},
        verify={**VERIFIED, "changed": 1},
    )
    with screen(quiet=True, verify="blue:eth2") as shown:
        shown.ui.startup(startup(warnings=[("a", "b"), ("c", "")]))
        shown.ui.message("eth1 went down")
        shown.ui.finish(wrong)
    assert shown.lines == [
        "xdpcap: eth1: a; b",
        "xdpcap: eth1: c",
        "xdpcap: eth1 went down",
        "xdpcap: skipped 1 packet too long for the MTU (number 3); raise it on both ends",
        "xdpcap: 2 packets dropped by the interface while it was sending (tx_dropped): "
        "the other end can't follow; send slower",
        "xdpcap: --verify blue:eth2: 1 000 packets of 1 000 arrived: 1 changed",
    ]


def test_json_is_the_only_thing_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    ended = report(files=["captures/\udcff-ü.pcap"], verify=VERIFIED)
    with screen(json=True) as shown:
        shown.ui.startup(startup())
        shown.ui.start(1000, 10.0)
        shown.ui.tick(progress(1.0))
        shown.ui.finish(ended)
    output = capsys.readouterr()
    assert json.loads(output.out) == ended
    assert output.out.isascii()
    assert output.out.count("\n") == 1
    assert not any("on the wire" in line for line in shown.lines)


def test_nothing_for_people_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    ui = ReplayUi(OPTIONS)
    ui.startup(startup())
    ui.start(1000, 10.0)
    ui.tick(progress(1.0))
    ui.finish(report())
    ui.close()
    output = capsys.readouterr()
    assert output.out == ""
    assert "976.6 KiB" in output.err


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "gone"), OSError(5, "hung up"), OSError(28, "full")]
)
@pytest.mark.parametrize("terminal", [False, True])
def test_a_standard_error_that_is_gone_never_stops_the_replay(
    monkeypatch: pytest.MonkeyPatch, error: OSError, terminal: bool
) -> None:
    abandoned: list[object] = []
    monkeypatch.setattr("xdpcap.cli.terminal.abandon", abandoned.append)
    gone = Gone(error)
    ui = ReplayUi(OPTIONS, StderrConsole(file=gone, force_terminal=terminal, width=80, height=24))
    ui.startup(startup())
    ui.start(1000, 10.0)
    for second in range(1, 4):
        ui.tick(progress(float(second)))
        ui.message("still here")
    ui.finish(report())
    ui.close()
    assert abandoned == [sys.stderr]
    assert gone.write_count == 1


SCRIPT = """
from replay_session_facts import *
ui = ReplayUi(replace(OPTIONS, json=True))
ui.startup(startup(warnings=[("why", "command")], queues=[(0, False)]))
ui.start(10_000, 10.0)
for second in range(1, 4):
    ui.tick(progress(float(second)))
    ui.message("eth1: a message")
ui.finish(report())
ui.close()
"""


def on_terminal(**environment: str) -> str:
    """What the script shows on a terminal of 80 columns."""
    done, shown = drive_on_terminal(SCRIPT, **environment)
    assert done.returncode == 0
    assert json.loads(done.stdout) == report()
    return shown


def test_the_report_reaches_standard_output_after_standard_error_is_gone() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = drive(SCRIPT, stderr=write_end)
    os.close(write_end)
    assert done.returncode == 0
    assert json.loads(done.stdout) == report()


def test_no_color_leaves_out_colours_on_a_terminal() -> None:
    assert COLOUR.search(on_terminal(TERM="xterm-256color", NO_COLOR=""))
    assert not COLOUR.search(on_terminal(TERM="xterm-256color", NO_COLOR="1"))


def test_a_locale_without_unicode_gets_ascii() -> None:
    shown = on_terminal(TERM="xterm", PYTHONIOENCODING="iso-8859-1")
    assert shown.isascii()
    assert "----------" in shown and " 30%  0:00:07 to go" in shown


def test_a_dumb_terminal_gets_lines() -> None:
    shown = on_terminal(TERM="dumb")
    assert "\x1b" not in shown
    assert "3.0s eth1: 3 000 packets, 1.0 kpps" in shown


def test_colours_asked_for_in_a_pipe_do_not_bring_the_bar() -> None:
    done = drive(SCRIPT, env={"FORCE_COLOR": "1"})
    assert b"\x1b" not in done.stderr
    assert b"3.0s eth1: 3 000 packets" in done.stderr
