"""A session's output: lines, start-up report and summary, and what goes to standard output."""

from __future__ import annotations

import json
import logging
import os

import pytest
from record_session_facts import OPTIONS, account, report, screen, startup, tick

from xdpcap.cli.record_ui import TerminalUi
from xdpcap.record.startup import QueueMode, Spoiler


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
        shown.ui.startup(startup())
        shown.ui.start()
        tick(shown.ui, 1.0, account())
        shown.ui.finish(report(account()))
    assert shown.lines == []


def test_quiet_still_warns_of_spoilers_and_of_losses() -> None:
    spoiler = Spoiler("LRO is on", "ethtool -K eth0 lro off")
    with screen(quiet=True) as shown:
        shown.ui.startup(startup(spoilers=[spoiler]))
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


def test_the_start_up_report_of_an_ordinary_capture_is_four_lines_below_the_interface() -> None:
    with screen() as shown:
        shown.ui.startup(startup())
    assert shown.lines == [
        "eth0       mlx5_core, MTU 1500, Linux 6.18.4",
        "  attach   native",
        "  queues   2 of 2 zero-copy, multi-buffer",
        "  memory   64 MiB a queue",
        "  clock    CLOCK_TAI, one stamp a packet, by the XDP program",
    ]


def test_the_start_up_report_tells_queues_apart_and_those_that_are_missing() -> None:
    queues = [
        QueueMode(0, True, True),
        QueueMode(1, True, True),
        QueueMode(2, False, True),
        QueueMode(5, True, False),
    ]
    with screen(width=80) as shown:
        shown.ui.startup(startup(queues=queues, queue_count=8, metadata="software"))
    text = "\n".join(shown.lines)
    assert "queues   4 of 8: packets of the others stay with the kernel" in text
    assert "           0-1: zero-copy, multi-buffer\n" in text
    assert "           2: copy, multi-buffer\n" in text
    assert "           5: zero-copy, one frame a packet\n" in text
    assert "by the worker" in text


def test_a_time_that_is_not_the_nics_is_told_of_with_the_reason_below_the_clock() -> None:
    with screen() as shown:
        shown.ui.startup(startup(why_host="receive time stamping is off"))
    assert shown.lines[-1] == "           not the NIC's time: receive time stamping is off"


def test_a_spoiler_comes_with_its_command_in_one_piece() -> None:
    command = "ip netns exec a-namespace ethtool --offload a-long-interface lro off rxvlan off"
    with screen(width=40) as shown:
        shown.ui.startup(startup(spoilers=[("LRO is on", command)]))
    assert shown.lines[-2].endswith("LRO is on")
    assert shown.lines[-1] == f"    mend: {command}"


def test_what_a_spoiler_or_a_file_is_called_is_never_taken_for_markup() -> None:
    with screen() as shown:
        shown.ui.startup(startup(spoilers=[("[bold]x[/bold]", "[red]y")]))
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


@pytest.mark.parametrize("kind", ["host", "adapter", "adapter_unsynced"])
def test_the_summary_tells_packets_apart_that_the_nic_stamped_where_it_was_to(kind: str) -> None:
    told = report(account(received=1000, device_stamped=990), account(1, received=34))
    told["interfaces"][0]["time_stamp_type"] = kind
    with screen() as shown:
        shown.ui.finish(told)
    line = "  eth0: 990 received packets have the NIC's time, 44 do not"
    assert (line in shown.lines) == (kind != "host")


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
        shown.ui.startup(startup())
        tick(shown.ui, 1.0, account())
        shown.ui.finish(ended)
    output = capsys.readouterr()
    assert json.loads(output.out) == ended
    assert output.out.isascii()
    assert output.out.count("\n") == 1
    assert output.err == ""
    assert not any("packets captured" in line for line in shown.lines)


def test_nothing_for_people_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    ui = TerminalUi(OPTIONS)
    ui.startup(startup(spoilers=[("LRO is on", "ethtool -K eth0 lro off")]))
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
