"""The live table at several widths: no figure is ever cut, poorer terminals lose columns."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from xdpcap.cli.glyphs import FULL, PLAIN, Glyphs, glyphs_for
from xdpcap.cli.rates import Rate, RateMeter
from xdpcap.cli.record_live import LAYOUTS, Moment, clock_text, live_view, visible_accounts
from xdpcap.record.ledger import QueueAccount, total

FILE = "captures/eth0-q1-20261121T093000.123456789Z-000001.pcapng.part"


def account(queue: int = 0, interface: str = "eth0", **counts: int) -> QueueAccount:
    received = counts.pop("received", 1_234_567)
    return QueueAccount(
        interface=interface,
        queue=queue,
        zero_copy=True,
        attach_mode="native",
        received=received,
        bytes_received=received * 100,
        files=1,
        current_file=FILE,
        ring_size=16384,
        **counts,
    )


def moment(accounts: Sequence[QueueAccount], elapsed_s: float = 1.0) -> Moment:
    return Moment(
        accounts=accounts,
        totals=total(accounts),
        rates=RateMeter().measure(accounts, elapsed_s),
        elapsed_s=elapsed_s,
        disk_rate_bytes=812.3e6,
    )


def render(shown: Moment, width: int, height: int = 24, glyphs: Glyphs = FULL) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, record=True)
    console.print(live_view(shown, glyphs, width, height))
    return console.export_text().splitlines()


TWO = [
    account(0, rx_ring_full=12, ring_fill=8192),
    account(1, received=2_000_000, rx_dropped=7, write_dropped=5, fill_ring_empty=7),
]


def test_120_columns_show_every_place_of_loss_the_ring_and_the_file() -> None:
    head, rule, first, second, _, foot, status = render(moment(TWO), 120)
    assert head.split("  ")[0].strip() == "eth0"
    for title in ("packets/s", "Mb/s", "ring full", "rx drop", "write err", "ring fill", "file"):
        assert title in head
    assert set(rule) == {"─"}
    assert "q0" in first and "1 234 567" in first and "987.7" in first and "50%" in first
    assert "20261121T093000.123456789Z-000001.pcapng" in first
    assert ".part" not in first
    assert second.split()[:5] == ["q1", "2", "000", "000", "1"]
    assert "total" in foot and "3 234 567" in foot
    assert "0:00:01" in status and "812.3 MB/s" in status and "2 files" in status


def test_80_columns_show_every_place_of_loss_and_the_ring() -> None:
    lines = render(moment(TWO), 80)
    assert "file" not in lines[0].split()
    for title in ("packets/s", "Mb/s", "ring full", "rx drop", "write err", "ring fill"):
        assert title in lines[0]
    assert "3 234 567" in lines[5]


def test_40_columns_still_show_the_losses() -> None:
    lines = render(moment(TWO), 40)
    assert lines[0].split() == ["eth0", "packets/s", "Mb/s", "lost"]
    assert lines[3].endswith(" 12")


@given(
    width=st.integers(40, 250),
    received=st.lists(st.integers(0, 99_999_999), min_size=1, max_size=6),
    losses=st.integers(0, 10**9),
)
def test_no_line_is_too_long_and_no_figure_is_cut(
    width: int, received: list[int], losses: int
) -> None:
    accounts = [account(q, received=n, rx_ring_full=losses) for q, n in enumerate(received)]
    lines = render(moment(accounts), width)
    assert max(map(len, lines)) <= width
    for line in lines[:-1]:
        # An ellipsis may stand in a file's name only.
        assert "…" not in line or "pcapng" in line


def test_interfaces_are_named_in_each_row_only_if_there_are_several() -> None:
    several = render(moment([account(0), account(0, "eth1")]), 120)
    assert several[0].split()[0] == "queue"
    assert several[2].split()[:2] == ["eth0", "q0"]
    assert several[3].split()[:2] == ["eth1", "q0"]


def test_a_single_queue_has_no_totals() -> None:
    text = "\n".join(render(moment([account()]), 120))
    assert "total" not in text
    assert "1 file " in text


@pytest.mark.parametrize("height", [8, 12, 24, 50])
def test_more_queues_than_lines_leave_out_the_quiet_ones(height: int) -> None:
    accounts = [account(q, received=1000 - q) for q in range(64)]
    accounts[63] = account(63, received=0, rx_ring_full=3)
    lines = render(moment(accounts), 100, height)
    assert len(lines) < height
    assert any(line.startswith(" q63 ") for line in lines), "the queue that loses packets"
    shown = sum(line.startswith(" q") for line in lines)
    assert f"{64 - shown} quieter queues not shown" in "\n".join(lines)


def test_the_rows_that_are_shown_keep_their_order() -> None:
    accounts = [account(q, received=q) for q in range(9)]
    assert [a.queue for a in visible_accounts(moment(accounts), 3)] == [6, 7, 8]
    assert visible_accounts(moment(accounts), 9) == accounts


def test_without_unicode_nothing_but_ascii_is_drawn() -> None:
    shown = moment([account(0, ring_fill=9000), account(1)])
    for width in (40, 80, 120):
        assert "\n".join(render(shown, width, glyphs=PLAIN)).isascii()


def test_the_columns_do_not_move_while_the_figures_grow() -> None:
    before = render(moment([account(0, received=1), account(1, received=1)]), 120)
    after = render(moment([account(0, received=9_999_999), account(1, received=999_999)]), 120)
    assert before[0] == after[0]


def test_every_layout_has_the_queue_the_rate_and_the_losses() -> None:
    for layout in LAYOUTS:
        assert layout[:2] == ("queue", "packets_per_s")
        assert "lost" in layout or {"rx_ring_full", "rx_dropped", "write_dropped"} <= set(layout)


def test_a_bar_is_empty_only_at_nothing_and_full_only_at_all() -> None:
    for glyphs, full in ((FULL, "█"), (PLAIN, "#")):
        assert full not in glyphs.bar_of(0.0, 8)
        assert glyphs.bar_of(1.0, 8) == full * 8
        assert glyphs.bar_of(0.0001, 8) != glyphs.bar_of(0.0, 8)
        assert glyphs.bar_of(7.0, 8) == full * 8


@given(fraction=st.floats(-1, 2), width=st.integers(1, 40))
def test_a_bar_always_has_its_width(fraction: float, width: int) -> None:
    assert len(FULL.bar_of(fraction, width)) == len(PLAIN.bar_of(fraction, width)) == width


@given(text=st.text(max_size=30), width=st.integers(1, 30))
def test_a_name_is_cut_at_its_left(text: str, width: int) -> None:
    for glyphs in (FULL, PLAIN):
        cut = glyphs.cut_left(text, width)
        assert len(cut) <= width
        assert text.endswith(cut.removeprefix(glyphs.ellipsis)) or width < 3


def test_only_utf_8_gets_more_than_ascii() -> None:
    assert glyphs_for("utf-8") is FULL
    assert glyphs_for("UTF8") is FULL
    assert glyphs_for("ascii") is PLAIN
    assert glyphs_for("iso-8859-1") is PLAIN


def test_rates_are_of_the_time_since_the_last_look() -> None:
    meter = RateMeter()
    first = meter.measure([account(0, received=100)], 2.0)
    second = meter.measure([account(0, received=400)], 3.0)
    same_time = meter.measure([account(0, received=900)], 3.0)
    assert first["eth0", 0] == Rate(50.0, 50.0 * 100 * 8)
    assert second["eth0", 0] == Rate(300.0, 300.0 * 100 * 8)
    assert same_time["eth0", 0] == Rate(0.0, 0.0)


def test_a_queue_that_comes_later_counts_from_nothing() -> None:
    meter = RateMeter()
    meter.measure([account(0, received=100)], 1.0)
    assert meter.measure([account(1, received=100)], 2.0)["eth0", 1].packets_per_s == 100.0


def test_elapsed_time_reads_like_a_clock() -> None:
    assert clock_text(0.9) == "0:00:00"
    assert clock_text(93784) == "26:03:04"
