"""The terminal side of a session: what goes where, and that nothing there can stop a recording."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from screens import COLOUR, Gone, Memory, drive, drive_on_terminal

from xdpcap.cli.terminal import StderrConsole
from xdpcap.cli.ui import TerminalUi
from xdpcap.config import RecordConfig
from xdpcap.stats import QueueAccount, reported_total, total
from xdpcap.verdict import QueueVerdict, Spoiler, Verdict

CONFIG = RecordConfig(interfaces=("eth0",), output="captures")


def account(queue: int = 0, interface: str = "eth0", **counts: Any) -> QueueAccount:
    counts = {"received": 1000, "written": 1000, "redirected": 1000, "seen": 1000, **counts}
    return QueueAccount(
        interface=interface,
        queue=queue,
        zero_copy=True,
        attach_mode="native",
        bytes_received=counts["received"] * 100,
        bytes_written=counts["written"] * 120,
        files=1,
        current_file=f"captures/{interface}-q{queue}.pcapng.part",
        ring_size=1024,
        **counts,
    )


def verdict(**changes: Any) -> Verdict:
    queues = [QueueVerdict(0, True, True), QueueVerdict(1, True, True)]
    granted = Verdict(
        interface="eth0",
        driver="mlx5_core",
        attach_mode="native",
        queues=queues,
        queue_count=2,
        mtu=1500,
        clock="CLOCK_TAI",
        metadata="program",
        kernel="6.18.4",
        memory="64 MiB a queue",
    )
    return replace(granted, **changes)


def report(*accounts: QueueAccount, files: int = 1) -> dict[str, Any]:
    return {
        "interfaces": [
            {
                "name": "eth0",
                "driver": "mlx5_core",
                "mtu": 1500,
                "queue_count": 2,
                "attach_mode": "native",
                "queues": [row.reported() for row in accounts],
            }
        ],
        "total": reported_total(total(accounts)),
        "files": [
            {"path": f"captures/{n}.pcapng", "packets": 500, "bytes": 60000} for n in range(files)
        ],
        "started": "2026-11-21T09:30:00.500000+00:00",
        "ended": "2026-11-21T09:30:10.500000+00:00",
        "clock": "CLOCK_TAI",
    }


class Screen(Memory):
    """A user interface that writes into memory."""

    def __init__(self, *, terminal: bool = False, width: int = 120, **config: Any) -> None:
        super().__init__(terminal=terminal, width=width)
        self.ui = TerminalUi(replace(CONFIG, **config), self.console)


@contextmanager
def screen(**settings: Any) -> Iterator[Screen]:
    made = Screen(**settings)
    try:
        yield made
    finally:
        made.ui.close()


def tick(ui: TerminalUi, elapsed_s: float, *accounts: QueueAccount) -> None:
    ui.tick(accounts, total(accounts), elapsed_s, 1e6)


def test_off_a_terminal_each_interval_is_one_line() -> None:
    with screen() as shown:
        shown.ui.start()
        tick(shown.ui, 1.0, account(received=1_234_567))
        tick(shown.ui, 2.0, account(received=1_234_667, rx_ring_full=1200))
    assert shown.lines == [
        "1.0s eth0: 1 234 567 packets, 1.2 Mpps, 987.7 Mb/s, 0 lost",
        "2.0s eth0: 1 234 667 packets, 100 pps, 80.0 kb/s, 1 200 lost",
    ]


def test_a_line_adds_up_the_queues_of_each_interface() -> None:
    with screen() as shown:
        tick(shown.ui, 1.0, account(0), account(1), account(0, "eth1", rx_dropped=4))
    assert shown.lines == [
        "1.0s eth0: 2 000 packets, 2.0 kpps, 1.6 Mb/s, 0 lost; "
        "eth1: 1 000 packets, 1.0 kpps, 800.0 kb/s, 4 lost"
    ]


def test_ticks_faster_than_the_interval_make_no_more_lines() -> None:
    with screen(stats_interval_s=10.0) as shown:
        for tenth in range(1, 301):
            tick(shown.ui, tenth / 10, account(received=tenth * 100))
    assert [line.split()[0] for line in shown.lines] == ["9.0s", "18.0s", "27.0s"]
    # The rate is of the whole time since the last line.
    assert all("1.0 kpps" in line for line in shown.lines)


def test_quiet_says_nothing_when_nothing_is_wrong() -> None:
    with screen(quiet=True) as shown:
        shown.ui.verdict(verdict())
        shown.ui.start()
        tick(shown.ui, 1.0, account())
        shown.ui.finish(report(account()))
    assert shown.lines == []


def test_quiet_still_warns_of_spoilers_and_of_losses() -> None:
    spoiler = Spoiler("LRO is on", "ethtool -K eth0 lro off")
    with screen(quiet=True) as shown:
        shown.ui.verdict(verdict(spoilers=[spoiler]))
        shown.ui.message("eth0 went down")
        shown.ui.finish(report(account(rx_ring_full=3, write_dropped=2)))
    assert shown.lines[:2] == [
        "xdpcap: eth0: LRO is on; ethtool -K eth0 lro off",
        "xdpcap: eth0 went down",
    ]
    assert [line.split(":")[1] for line in shown.lines[2:]] == [
        " packets lost, 3 rx_ring_full",
        " packets lost, 2 write_dropped",
    ]


def test_the_verdict_of_an_ordinary_capture_is_four_lines_below_the_interface() -> None:
    with screen() as shown:
        shown.ui.verdict(verdict())
    assert shown.lines == [
        "eth0       mlx5_core, MTU 1500, Linux 6.18.4",
        "  attach   native",
        "  queues   2 of 2 zero-copy, multi-buffer",
        "  memory   64 MiB a queue",
        "  clock    CLOCK_TAI, one stamp a packet, by the XDP program",
    ]


def test_the_verdict_tells_queues_apart_and_those_that_are_missing() -> None:
    queues = [
        QueueVerdict(0, True, True),
        QueueVerdict(1, True, True),
        QueueVerdict(2, False, True),
        QueueVerdict(5, True, False),
    ]
    with screen(width=80) as shown:
        shown.ui.verdict(verdict(queues=queues, queue_count=8, metadata="software"))
    text = "\n".join(shown.lines)
    assert "queues   4 of 8: packets of the others stay with the kernel" in text
    assert "           0-1: zero-copy, multi-buffer\n" in text
    assert "           2: copy, multi-buffer\n" in text
    assert "           5: zero-copy, one frame a packet\n" in text
    assert "by the worker" in text


def test_a_spoiler_comes_with_its_command_in_one_piece() -> None:
    command = "ip netns exec a-namespace ethtool --offload a-long-interface lro off rxvlan off"
    with screen(width=40) as shown:
        shown.ui.verdict(verdict(spoilers=[("LRO is on", command)]))
    assert shown.lines[-2].endswith("LRO is on")
    assert shown.lines[-1] == f"    mend: {command}"


def test_what_a_spoiler_or_a_file_is_called_is_never_taken_for_markup() -> None:
    with screen() as shown:
        shown.ui.verdict(verdict(spoilers=[("[bold]x[/bold]", "[red]y")]))
        shown.ui.message("[/oops] \x1b[2J\n next")
    assert shown.lines[-3].endswith("[bold]x[/bold]")
    assert shown.lines[-2].endswith("[red]y")
    assert shown.lines[-1] == r"xdpcap: [/oops] \x1b[2J  next"


def test_the_summary_ends_in_tcpdumps_words() -> None:
    with screen() as shown:
        shown.ui.finish(report(account()))
    assert shown.lines[0].startswith("eth0: 10.0 s, 58.6 KiB in 1 file, 100 pps on average")
    assert shown.lines[-3:] == [
        "1000 packets captured",
        "1000 packets received by filter",
        "0 packets dropped by kernel",
    ]


def test_a_summary_without_files_tells_the_size_of_the_packets() -> None:
    with screen() as shown:
        shown.ui.finish(report(account(), files=0))
    assert shown.lines[0] == "eth0: 10.0 s, 117.2 KiB of packets, 100 pps on average"


def test_one_packet_is_not_packets() -> None:
    with screen() as shown:
        shown.ui.finish(report(account(received=1, written=1, redirected=1, rx_dropped=1)))
    assert shown.lines[-4:-1] == [
        "1 packet captured",
        "1 packet received by filter",
        "1 packet dropped by kernel",
    ]


def test_the_summary_names_each_place_of_loss_with_a_way_out() -> None:
    lossy = account(
        redirected=1111, rx_ring_full=60, rx_dropped=50, write_dropped=1, dropped=3, unaccounted=2
    )
    with screen() as shown:
        shown.ui.finish(report(lossy))
    losses = [line for line in shown.lines if line.startswith("  ") and ": " in line]
    assert [line.split(":")[0].strip() for line in losses] == [
        "60 rx_ring_full",
        "50 rx_dropped",
        "3 dropped",
        "1 write_dropped",
        "2 unaccounted",
    ]
    assert "110 packets dropped by kernel" in shown.lines


def test_packets_beyond_the_limit_are_explained_and_no_loss() -> None:
    with screen() as shown:
        shown.ui.finish(report(account(redirected=1234, beyond_limit=234)))
    assert shown.lines[-1] == "  234 came after the limit was reached and are in no file"
    assert "0 packets dropped by kernel" in shown.lines


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_ledger_of_several_queues_is_never_cut(width: int) -> None:
    rows = [
        account(q, received=987_654_321, redirected=987_654_321, written=987_654_321)
        for q in range(3)
    ]
    with screen(width=width) as shown:
        shown.ui.finish(report(*rows))
    table = [line for line in shown.lines if line.startswith((" eth0", " q", " total"))]
    assert len(table) == 5
    assert all(len(line) <= width and "…" not in line for line in table)
    assert "2 962 962 963" in table[-1]


def test_a_long_list_of_files_shows_the_first_and_the_last() -> None:
    with screen() as shown:
        shown.ui.finish(report(account(), files=100))
    listed = [line.split()[-1] for line in shown.lines if line.endswith(".pcapng")]
    assert [os.path.basename(path).split(".")[0] for path in listed] == [
        *("0", "1", "2", "3"),
        *("96", "97", "98", "99"),
    ]
    assert any("92 more files" in line for line in shown.lines)


def test_json_is_the_only_thing_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    ended = report(account(), account(1, rx_dropped=2))
    ended["files"][0]["path"] = "captures/\udcff-ü.pcapng"
    with screen(json=True) as shown:
        shown.ui.verdict(verdict())
        tick(shown.ui, 1.0, account())
        shown.ui.finish(ended)
    output = capsys.readouterr()
    assert json.loads(output.out) == ended
    assert output.out.isascii()
    assert output.out.count("\n") == 1
    assert output.err == ""
    assert not any("packets captured" in line for line in shown.lines)


def test_nothing_for_people_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    ui = TerminalUi(CONFIG)
    ui.verdict(verdict(spoilers=[("LRO is on", "ethtool -K eth0 lro off")]))
    ui.start()
    tick(ui, 1.0, account())
    ui.message("eth0 went down")
    ui.finish(report(account()))
    ui.close()
    output = capsys.readouterr()
    assert output.out == ""
    assert "1000 packets captured\n" in output.err


def test_what_the_package_logs_is_a_message_until_the_session_is_closed() -> None:
    logger = logging.getLogger("xdpcap.net.offloads")
    with screen() as shown:
        logger.info("restored: ethtool -K %s lro on", "eth0")
        logger.debug("not this")
    logger.warning("not this either")
    assert shown.lines == ["xdpcap: restored: ethtool -K eth0 lro on"]
    with screen(quiet=True) as shown:
        logger.info("restored")
        logger.warning("could not restore")
    assert shown.lines == ["xdpcap: could not restore"]


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
    ui = TerminalUi(CONFIG, console)
    ui.verdict(verdict())
    ui.start()
    for second in range(1, 4):
        tick(ui, float(second), account())
        ui.message("still here")
    ui.finish(report(account()))
    ui.close()
    assert abandoned == [sys.stderr]
    assert gone.write_count == 1


SCRIPT = """
from test_cli_ui import *
ui = TerminalUi(CONFIG)
ui.verdict(verdict(spoilers=[("LRO is on", "ethtool -K eth0 lro off")]))
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
