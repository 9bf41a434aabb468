"""The live table on a terminal, and that nothing at the terminal's end can stop a recording."""

from __future__ import annotations

import os
import sys

import pytest
from record_session_facts import OPTIONS, account, report, screen, startup, tick
from terminals import COLOUR, Gone, drive, drive_on_terminal

from xdpcap.cli.record_ui import TerminalUi
from xdpcap.cli.terminal import StderrConsole


def test_on_a_terminal_messages_stand_above_the_table_and_the_summary_replaces_it() -> None:
    with screen(terminal=True, width=100) as shown:
        shown.ui.start()
        tick(shown.ui, 1.0, account(0), account(1))
        shown.ui.message("eth0 went down")
        tick(shown.ui, 2.0, account(0), account(1))
        shown.ui.finish(report(account(0), account(1)))
    text = shown.file.getvalue()
    assert "packets/s" in text
    # The message is printed first, and the table drawn anew below it.
    after = text[text.index("eth0 went down") :]
    assert "packets/s" in after
    assert text.rstrip().endswith("0 packets dropped by kernel")


def test_the_cursor_stays_visible_for_a_process_that_may_be_killed() -> None:
    with screen(terminal=True) as shown:
        shown.ui.start()
        tick(shown.ui, 1.0, account())
        text = shown.file.getvalue()
        assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_losses_that_grow_stand_out() -> None:
    with screen(terminal=True) as shown:
        shown.ui.start()
        tick(shown.ui, 1.0, account(rx_ring_full=5))
        growing = shown.file.getvalue()
        tick(shown.ui, 2.0, account(rx_ring_full=5))
        steady = shown.file.getvalue()[len(growing) :]
    assert "\x1b[1;31m        5\x1b[0m" in growing
    assert "\x1b[31m        5\x1b[0m" in steady


def test_a_session_that_fails_leaves_its_last_figures_on_the_terminal() -> None:
    with screen(terminal=True) as shown:
        shown.ui.start()
        tick(shown.ui, 1.0, account())
    assert "1 000 packets" in shown.file.getvalue().rsplit("\x1b[2K", maxsplit=1)[-1]


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "gone"), OSError(5, "hung up"), OSError(28, "full")]
)
@pytest.mark.parametrize("terminal", [False, True])
def test_a_standard_error_that_is_gone_never_stops_the_recording(
    monkeypatch: pytest.MonkeyPatch, error: OSError, terminal: bool
) -> None:
    abandoned: list[object] = []
    monkeypatch.setattr("xdpcap.cli.terminal.abandon", abandoned.append)
    gone = Gone(error)
    console = StderrConsole(file=gone, force_terminal=terminal, width=80, height=24)
    ui = TerminalUi(OPTIONS, console)
    ui.startup(startup())
    ui.start()
    for second in range(1, 4):
        tick(ui, float(second), account())
        ui.message("still here")
    ui.finish(report(account()))
    ui.close()
    assert abandoned == [sys.stderr]
    assert gone.write_count == 1


SCRIPT = """
from record_session_facts import *
ui = TerminalUi(OPTIONS)
ui.startup(startup(spoilers=[("LRO is on", "ethtool -K eth0 lro off")]))
ui.start()
for second in range(1, 4):
    tick(ui, float(second), account(0, received=second * 1000), account(1, ring_fill=512))
    ui.message("eth0: a message")
print("packets", flush=True)
ui.finish(report(account(0), account(1)))
ui.close()
"""


def test_packets_reach_standard_output_after_standard_error_is_gone() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = drive(SCRIPT, stderr=write_end)
    os.close(write_end)
    assert done.returncode == 0
    assert done.stdout == b"packets\n"


def on_terminal(**environment: str) -> str:
    """What the script shows on a terminal of 80 columns."""
    done, shown = drive_on_terminal(SCRIPT, **environment)
    assert done.returncode == 0
    assert done.stdout == b"packets\n"
    return shown


def test_no_color_leaves_out_colours_on_a_terminal() -> None:
    assert COLOUR.search(on_terminal(TERM="xterm-256color", NO_COLOR=""))
    assert not COLOUR.search(on_terminal(TERM="xterm-256color", NO_COLOR="1"))


def test_a_locale_without_unicode_gets_ascii() -> None:
    shown = on_terminal(TERM="xterm", PYTHONIOENCODING="iso-8859-1")
    assert shown.isascii()
    assert "ring fill" in shown and "####" in shown


def test_a_dumb_terminal_gets_lines() -> None:
    shown = on_terminal(TERM="dumb")
    assert "\x1b" not in shown
    assert "3.0s eth0: 4 000 packets" in shown


def test_colours_asked_for_in_a_pipe_do_not_bring_the_live_table() -> None:
    done = drive(SCRIPT, env={"FORCE_COLOR": "1"})
    assert b"\x1b" not in done.stderr
    assert b"3.0s eth0: 4 000 packets" in done.stderr
