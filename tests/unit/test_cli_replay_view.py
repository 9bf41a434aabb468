"""What a replay shows: the start-up report, the bar at every width, the summary."""

from __future__ import annotations

import time
from typing import Any

import pytest
from replay_session_facts import LAUNCH, TIMING, VERIFIED, progress, queue, report, screen, startup

from xdpcap.replay.report import Progress

# -- the start-up report -----------------------------------------------------------------------


def test_the_start_up_report_of_an_ordinary_replay_is_four_lines_below_the_interface() -> None:
    with screen() as shown:
        shown.ui.startup(startup())
    assert shown.lines == [
        "eth1       igc, Linux 6.18.4",
        "  attach   native",
        "  queues   0-1: zero-copy",
        "  files    web.pcap: 1 500 packets, 976.6 KiB, read into memory",
        "  pace     the recorded times",
    ]


def test_the_start_up_report_tells_queues_files_and_launch_time_apart() -> None:
    streamed = startup(
        queues=[(0, False), (1, True), (4, False)],
        files=("1.pcap", "2.pcap", "-", "3.pcap", "4.pcap"),
        packets=None,
        bytes=None,
        preload=False,
        attach_mode="none",
        launch_time=LAUNCH,
    )
    with screen(width=60) as shown:
        shown.ui.startup(streamed)
        shown.ui.startup(startup(interface="eth2", driver="", files=()))
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
        shown.ui.startup(startup(warnings=warnings))
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
    ("options", "total", "to_go"),
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
    options: dict[str, Any], total: tuple[int | None, float | None], to_go: str | None
) -> None:
    with screen(**options) as shown:
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


def test_an_empty_ring_is_no_error_and_packets_that_the_interface_dropped_are_told() -> None:
    with screen() as shown:
        shown.ui.finish(report())
        shown.ui.finish(report(tx_errors={"tx_ring_empty": 7, "tx_dropped": 1234}))
    errors = [line for line in shown.lines if "dropped" in line]
    assert len(errors) == 1
    assert "1 234 packets dropped by the interface" in errors[0]
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
