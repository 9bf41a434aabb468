"""The terminal side of a replay: what goes where, and that nothing there can stop it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from screens import COLOUR, Gone, Memory, drive, drive_on_terminal

from xdpcap.cli.replay_ui import ReplayUi
from xdpcap.cli.terminal import StderrConsole
from xdpcap.replay_config import ReplayConfig
from xdpcap.replay_report import Progress
from xdpcap.replay_verdict import ReplayVerdict

CONFIG = ReplayConfig(files=("web.pcap",), interface="eth1")
LAUNCH = "not to be had from this driver; the sender waits for each packet's time"


def verdict(**changes: Any) -> ReplayVerdict:
    granted = ReplayVerdict(
        interface="eth1",
        driver="igc",
        attach_mode="native",
        queues=[(0, True), (1, True)],
        files=("web.pcap",),
        packets=1500,
        bytes=1_000_000,
        preload=True,
        pace="the recorded times",
        launch_time="",
        kernel="6.18.4",
    )
    return replace(granted, **changes)


def queue(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "interface": "eth1",
        "queue": number,
        "sent": 1000,
        "bytes": 1_000_000,
        "zero_copy": True,
        "late": 0,
        "kicks": 5,
        "loops": 1,
        **changes,
    }


TIMING = {
    "min_ns": 120,
    "p50_ns": 850,
    "p99_ns": 3100,
    "p99_9_ns": 81_000,
    "max_ns": 1_200_000,
    "late": 1,
}
VERIFIED = {"sent": 1000, "arrived": 1000, "missing": 0, "extra": 0, "changed": 0, "reordered": 0}


def report(**changes: Any) -> dict[str, Any]:
    return {
        "sent": 1000,
        "bytes": 1_000_000,
        "pps": 100.0,
        "mbps": 0.8192,
        "seconds": 10.0,
        "skipped": {"too_long": 0, "too_short": 0},
        "skipped_numbers": {"too_long": [], "too_short": []},
        "truncated": 0,
        "tx_errors": {"tx_invalid_descs": 0, "tx_ring_empty": 7},
        "zero_copy": True,
        "queues": [queue(0)],
        "timing": TIMING,
        "files": ["web.pcap"],
        "loops": 1,
        "interfaces": ["eth1"],
        "verify": None,
        "damage": [],
        **changes,
    }


class Screen(Memory):
    """A user interface that writes into memory."""

    def __init__(self, *, terminal: bool = False, width: int = 120, **config: Any) -> None:
        super().__init__(terminal=terminal, width=width)
        self.ui = ReplayUi(replace(CONFIG, **config), self.console)


@contextmanager
def screen(**settings: Any) -> Iterator[Screen]:
    made = Screen(**settings)
    try:
        yield made
    finally:
        made.ui.close()


def progress(seconds: float, packets_per_s: int = 1000, late: int = 0) -> Progress:
    sent = int(seconds * packets_per_s)
    return Progress(sent=sent, bytes=sent * 101, elapsed_s=seconds, late=late, queues=1)


# -- the verdict -------------------------------------------------------------------------------


def test_the_verdict_of_an_ordinary_replay_is_four_lines_below_the_interface() -> None:
    with screen() as shown:
        shown.ui.verdict(verdict())
    assert shown.lines == [
        "eth1       igc, Linux 6.18.4",
        "  attach   native",
        "  queues   0-1: zero-copy",
        "  files    web.pcap: 1 500 packets, 976.6 KiB, read into memory",
        "  pace     the recorded times",
    ]


def test_the_verdict_tells_queues_files_and_launch_time_apart() -> None:
    streamed = verdict(
        queues=[(0, False), (1, True), (4, False)],
        files=("1.pcap", "2.pcap", "-", "3.pcap", "4.pcap"),
        packets=None,
        bytes=None,
        preload=False,
        attach_mode="none",
        launch_time=LAUNCH,
    )
    with screen(width=60) as shown:
        shown.ui.verdict(streamed)
        shown.ui.verdict(verdict(interface="eth2", driver="", files=()))
    assert shown.lines == [
        "eth1       igc, Linux 6.18.4",
        "  attach   none",
        "  queues   1: zero-copy, 0,4: copy",
        "  files    1.pcap, 2.pcap, standard input and 2 more, read while sending",
        "  pace     the recorded times",
        f"  launch   {LAUNCH}",
        "eth2       unknown driver, Linux 6.18.4",
        "  attach   native",
        "  queues   0-1: zero-copy",
        "  pace     the recorded times",
    ]


def test_a_warning_comes_with_its_command_in_one_piece_if_there_is_one() -> None:
    command = "ip netns exec a-namespace ip link set a-long-interface mtu 9000"
    warnings = [("the far end's MTU is 1500", command), ("[red]no command", "")]
    with screen(width=40) as shown:
        shown.ui.verdict(verdict(warnings=warnings))
    assert shown.lines[-3].endswith("the far end's MTU is 1500")
    assert shown.lines[-2] == f"    mend: {command}"
    assert shown.lines[-1].endswith("[red]no command")


# -- while it runs -----------------------------------------------------------------------------


def test_off_a_terminal_each_interval_is_one_line() -> None:
    with screen() as shown:
        shown.ui.start(10_000, 10.0)
        shown.ui.tick(progress(1.0))
        shown.ui.tick(progress(2.0, late=3))
    assert shown.lines == [
        "1.0s eth1: 1 000 packets, 1.0 kpps, 1.0 Mb/s, 0 late, 0:00:09 to go",
        "2.0s eth1: 2 000 packets, 1.0 kpps, 1.0 Mb/s, 3 late, 0:00:08 to go",
    ]


def test_a_rate_is_of_bits_on_the_wire_since_the_last_line() -> None:
    with screen(second_interface="eth2", split="::/0") as shown:
        shown.ui.start(None, None)
        shown.ui.tick(Progress(sent=1000, bytes=60_000, elapsed_s=1.0, late=0, queues=2))
        shown.ui.tick(Progress(sent=4000, bytes=240_000, elapsed_s=3.0, late=0, queues=2))
    # 60 bytes take 84 on the wire (IEEE 802.3).
    assert shown.lines == [
        "1.0s eth1, eth2: 1 000 packets, 1.0 kpps, 672.0 kb/s, 0 late",
        "3.0s eth1, eth2: 4 000 packets, 1.5 kpps, 1.0 Mb/s, 0 late",
    ]


def test_ticks_faster_than_the_interval_make_no_more_lines() -> None:
    with screen(stats_interval_s=10.0) as shown:
        shown.ui.start(None, None)
        for tenth in range(1, 301):
            shown.ui.tick(progress(tenth / 10))
    assert [line.split()[0] for line in shown.lines] == ["9.0s", "18.0s", "27.0s"]
    assert all("1.0 kpps" in line for line in shown.lines)


@pytest.mark.parametrize(
    ("config", "total", "to_go"),
    [
        ({}, (10_000, 20.0), "0:00:18"),  # the plan knows best
        ({}, (10_000, None), "0:00:08"),  # else by the rate
        ({}, (10_000, 1.0), "0:00:08"),  # behind its plan: by the rate
        ({}, (None, None), None),
        ({"duration_s": 5.0}, (None, None), "0:00:03"),
        ({"duration_s": 5.0}, (10_000, 20.0), "0:00:03"),
        ({"duration_s": 50.0}, (10_000, 20.0), "0:00:18"),
        ({"limit": 4000}, (10_000, 20.0), "0:00:02"),
        ({"limit": 4000}, (None, None), "0:00:02"),
        ({"limit": 40_000}, (10_000, 20.0), "0:00:18"),
    ],
)
def test_the_time_to_go_is_the_shortest_that_is_known(
    config: dict[str, Any], total: tuple[int | None, float | None], to_go: str | None
) -> None:
    with screen(**config) as shown:
        shown.ui.start(*total)
        shown.ui.tick(progress(2.0))
    (line,) = shown.lines
    assert line.endswith(f", {to_go} to go" if to_go else "0 late")


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 120])
def test_the_bar_fits_the_terminal_at_any_width(width: int) -> None:
    with screen(terminal=True, width=width) as shown:
        shown.ui.start(1_000_000_000, 1000.0)
        shown.ui.tick(progress(420.0, 1_000_000, late=5))
        lines = [line.rpartition("\r")[2] for line in shown.lines[-2:]]
        assert all(len(line.rstrip()) <= width for line in lines)
        assert " 42%  0:09:40 to go" in lines[0]
        assert "420 000 000" in lines[1]
        assert ("━" in lines[0]) == (width >= 33)
        assert ("Ctrl-C stops" in lines[1]) == (width >= 120)


def test_without_an_end_the_bar_has_no_figure() -> None:
    with screen(terminal=True, width=80, loop=0) as shown:
        shown.ui.start(None, None)
        shown.ui.tick(progress(2.0))
        lines = shown.lines[-2:]
    assert "━" * 40 in lines[0] and "%" not in lines[0] and "to go" not in lines[0]
    assert "2 000 packets" in lines[1]


def test_the_time_until_the_first_packet_is_counted_down() -> None:
    start_at_ns = time.time_ns() + 3600 * 10**9
    with screen(terminal=True, width=80, start_at_ns=start_at_ns) as shown:
        shown.ui.start(1000, 10.0)
        assert "to the first packet" in shown.lines[-1]
        assert "0:59:5" in shown.lines[-1]
    with screen(terminal=True, width=80, start_at_ns=1) as shown:
        shown.ui.start(1000, 10.0)
        assert "to the first packet" not in "".join(shown.lines)


def test_on_a_terminal_messages_stand_above_the_bar_and_the_summary_replaces_it() -> None:
    with screen(terminal=True, width=100) as shown:
        shown.ui.start(1000, 10.0)
        shown.ui.tick(progress(1.0))
        shown.ui.message("eth1 went down")
        shown.ui.finish(report())
    text = shown.file.getvalue()
    after = text[text.index("eth1 went down") :]
    assert "Ctrl-C stops" in after
    assert "Ctrl-C stops" not in after[after.index("976.6 KiB") :]
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_session_that_fails_leaves_its_last_figures_on_the_terminal() -> None:
    with screen(terminal=True) as shown:
        shown.ui.start(1000, 10.0)
        shown.ui.tick(progress(1.0))
    assert "1 000 of 1 000 packets" in shown.file.getvalue().rsplit("\x1b[2K", maxsplit=1)[-1]


# -- the summary -------------------------------------------------------------------------------


def test_the_summary_of_a_good_replay_is_two_lines() -> None:
    with screen() as shown:
        shown.ui.finish(report())
    assert shown.lines == [
        "eth1: 1 000 packets, 976.6 KiB in 10.0 s; 100 pps, 819.2 kb/s on the wire, zero-copy",
        "  timing   min 120 ns, p50 850 ns, p99 3.1 us, p99.9 81.0 us, max 1.2 ms; "
        "1 packet later than 1ms",
    ]


def test_without_a_pace_there_is_no_timing() -> None:
    with screen(late_s=0.5) as shown:
        shown.ui.finish(report(timing=None, zero_copy=False, loops=1000, seconds=3700.0))
    assert shown.lines == [
        "eth1: 1 000 packets, 976.6 KiB in 1:01:40, 1 000 times over; "
        "100 pps, 819.2 kb/s on the wire, copy"
    ]


def test_skipped_packets_are_told_by_cause_with_the_first_numbers() -> None:
    skipped = report(
        skipped={"too_long": 12, "too_short": 1, "no_route": 3},
        skipped_numbers={"too_long": [3, 17, 21], "too_short": [7]},
        truncated=4,
    )
    with screen() as shown:
        shown.ui.finish(skipped)
    assert shown.lines[1:5] == [
        "  skipped  12 packets too long for the MTU (numbers 3, 17, 21, ...); "
        "raise it on both ends",
        "           1 packet shorter than an Ethernet header (number 7)",
        "           3 packets no route",
        "  cut      4 packets not recorded to the end (snap length), sent as far as recorded",
    ]


def test_an_empty_ring_is_no_error_and_a_refused_descriptor_is_one() -> None:
    with screen() as shown:
        shown.ui.finish(report())
        shown.ui.finish(report(tx_errors={"tx_invalid_descs": 2, "tx_ring_empty": 7}))
    errors = [line for line in shown.lines if "errors" in line]
    assert len(errors) == 1
    assert "2 tx_invalid_descs" in errors[0]
    assert not any("tx_ring_empty" in line for line in shown.lines)


def test_what_arrived_is_told_as_against_what_was_sent() -> None:
    with screen() as shown:
        shown.ui.finish(report(verify={**VERIFIED, "gap_error": TIMING}))
        shown.ui.finish(report(verify={**VERIFIED, "arrived": 999, "missing": 1, "reordered": 2}))
    told = [line for line in shown.lines if "verify" in line or "gaps" in line]
    assert told == [
        "  verify   1 000 packets of 1 000 arrived, each as it was sent",
        "           gaps off by min 120 ns, p50 850 ns, p99 3.1 us, p99.9 81.0 us, max 1.2 ms",
        "  verify   999 packets of 1 000 arrived: 1 missing, 2 reordered",
    ]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
def test_the_table_of_several_queues_is_never_cut(width: int) -> None:
    rows = [queue(n, sent=987_654_321, bytes=10**12, late=n) for n in range(2)]
    rows.append(queue(0, interface="eth2", zero_copy=False))
    with screen(width=width) as shown:
        shown.ui.finish(report(queues=rows, interfaces=["eth1", "eth2"], timing=None))
    table = [line for line in shown.lines if line.startswith((" queue", " eth", " total"))]
    assert len(table) == 5
    assert all(len(line) <= width for line in table)
    assert "1 975 309 642" in table[-1]
    assert ("1.8 TiB" in table[-1]) == (width >= 60)


# -- who gets what -----------------------------------------------------------------------------


def test_quiet_says_nothing_when_nothing_is_wrong() -> None:
    with screen(quiet=True) as shown:
        shown.ui.verdict(verdict())
        shown.ui.start(1000, 10.0)
        shown.ui.tick(progress(1.0))
        shown.ui.finish(report(verify=VERIFIED))
    assert shown.lines == []


def test_quiet_still_tells_what_is_wrong() -> None:
    wrong = report(
        skipped={"too_long": 1, "too_short": 0},
        skipped_numbers={"too_long": [3]},
        tx_errors={"tx_invalid_descs": 2},
        verify={**VERIFIED, "changed": 1},
    )
    with screen(quiet=True, verify="blue:eth2") as shown:
        shown.ui.verdict(verdict(warnings=[("a", "b"), ("c", "")]))
        shown.ui.message("eth1 went down")
        shown.ui.finish(wrong)
    assert shown.lines == [
        "xdpcap: eth1: a; b",
        "xdpcap: eth1: c",
        "xdpcap: eth1 went down",
        "xdpcap: skipped 1 packet too long for the MTU (number 3); raise it on both ends",
        "xdpcap: 2 tx_invalid_descs: the kernel refused them; please report this",
        "xdpcap: --verify blue:eth2: 1 000 packets of 1 000 arrived: 1 changed",
    ]


def test_json_is_the_only_thing_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    ended = report(files=["captures/\udcff-ü.pcap"], verify=VERIFIED)
    with screen(json=True) as shown:
        shown.ui.verdict(verdict())
        shown.ui.start(1000, 10.0)
        shown.ui.tick(progress(1.0))
        shown.ui.finish(ended)
    output = capsys.readouterr()
    assert json.loads(output.out) == ended
    assert output.out.isascii()
    assert output.out.count("\n") == 1
    assert not any("on the wire" in line for line in shown.lines)


def test_nothing_for_people_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    ui = ReplayUi(CONFIG)
    ui.verdict(verdict())
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
    ui = ReplayUi(CONFIG, StderrConsole(file=gone, force_terminal=terminal, width=80, height=24))
    ui.verdict(verdict())
    ui.start(1000, 10.0)
    for second in range(1, 4):
        ui.tick(progress(float(second)))
        ui.message("still here")
    ui.finish(report())
    ui.close()
    assert abandoned == [sys.stderr]
    assert gone.write_count == 1


SCRIPT = """
from test_cli_replay_ui import *
ui = ReplayUi(replace(CONFIG, json=True))
ui.verdict(verdict(warnings=[("why", "command")], queues=[(0, False)]))
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
