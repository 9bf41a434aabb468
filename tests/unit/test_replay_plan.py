"""When packets are due, against the same sums done with fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpcap.packets.packet_set import PacketSet
from xdpcap.replay.plan import Pacer, select, wire_bits_of

SECOND = 10**9
LATEST = 1 << 62
START = 1_795_253_400 * SECOND

TIMES = st.lists(st.integers(0, 4 * 10**18), max_size=60)
GAPS = st.lists(st.integers(-SECOND, 100 * SECOND), max_size=60)
SIZES = st.lists(st.integers(14, 9000), max_size=60)


def timed(times: list[int]) -> PacketSet:
    packets = PacketSet()
    for ts_ns in times:
        packets.append(bytes(60), ts_ns=ts_ns)
    return packets


def sized(sizes: list[int]) -> PacketSet:
    packets = PacketSet()
    for size in sizes:
        packets.append(bytes(size))
    return packets


def after(gaps: list[int]) -> list[int]:
    times = [START]
    for gap in gaps:
        times.append(times[-1] + gap)
    return times


def recorded(times: list[int], speed: Fraction, limit_ns: int | None = None) -> list[Fraction]:
    """Due times as the manual tells them: from the latest so far, cut, then divided."""
    due, at, latest = [], Fraction(0), None
    for ts_ns in times:
        if latest is not None and ts_ns > latest:
            gap = ts_ns - latest
            at += Fraction(gap if limit_ns is None else min(gap, limit_ns)) / speed
        latest = ts_ns if latest is None else max(latest, ts_ns)
        due.append(at)
    return due


def assert_close(plan, exact: list[Fraction]) -> None:
    """Within a nanosecond and what 53 bits leave open, for each packet; never backwards."""
    assert len(plan) == len(exact)
    for index, value in enumerate(exact):
        assert abs(plan[index] - value) <= 1 + value * len(exact) / 2**52
    assert list(plan) == sorted(plan)


# -- recorded times -------------------------------------------------------------------------------


@given(GAPS)
def test_recorded_times_are_kept_to_the_nanosecond(gaps):
    times = after(gaps)
    assert list(Pacer("recorded").plan(timed(times))) == recorded(times, Fraction(1))


@given(GAPS, st.sampled_from(["0.001", "0.5", "1", "2.5", "24", "1000000"]))
def test_a_speed_divides_every_gap(gaps, speed):
    times = after(gaps)
    plan = Pacer("recorded", float(speed)).plan(timed(times))
    assert_close(plan, recorded(times, Fraction(float(speed))))


@given(GAPS, st.sampled_from([1, 1000, SECOND // 2, 3 * SECOND]), st.sampled_from([1, 0.5, 4]))
def test_a_gap_limit_cuts_longer_pauses_before_the_speed_divides_them(gaps, limit_ns, speed):
    times = after(gaps)
    plan = Pacer("recorded", speed, limit_ns / SECOND).plan(timed(times))
    assert_close(plan, recorded(times, Fraction(speed), limit_ns))


def test_a_gap_limit_leaves_shorter_pauses_and_cuts_one_that_is_longer():
    times = [START, START + 1_000_000, START + 3600 * SECOND, START + 3600 * SECOND + 5]
    assert list(Pacer("recorded", 1, 2.0).plan(timed(times))) == [
        0, 1_000_000, 2 * SECOND + 1_000_000, 2 * SECOND + 1_000_005,
    ]  # fmt: skip


def test_a_time_before_its_predecessors_is_taken_as_the_same_time():
    times = [START + offset for offset in (0, 100, 40, 90, 100, 130)]
    assert list(Pacer("recorded").plan(timed(times))) == [0, 100, 100, 100, 100, 130]


@given(TIMES, st.sampled_from([0.001, 1, 1e9]))
def test_any_times_at_all_give_due_times_that_rise_and_fit_63_bits(times, speed):
    due = list(Pacer("recorded", speed).plan(timed(times)))
    assert due == sorted(due)
    assert all(0 <= at <= LATEST for at in due)
    assert not times or due[0] == 0


def test_times_that_lead_too_far_end_at_the_last_due_time_there_is():
    pacer = Pacer("recorded", 0.001)
    assert list(pacer.plan(timed([0, 9 * 10**18]))) == [0, LATEST]
    assert pacer.pass_ns == LATEST
    slow = Pacer("pps", 1e-9)
    assert list(slow.plan(sized([60] * 12)))[-1] == LATEST


# -- rates ----------------------------------------------------------------------------------------


@given(st.integers(0, 200), st.sampled_from([0.001, 1 / 3, 3, 7, 999_983, 14_880_952.38]))
def test_packets_a_second_are_as_far_apart_as_the_rate_says(count, pps):
    exact = [index * SECOND / Fraction(pps) for index in range(count)]
    assert_close(Pacer("pps", pps).plan(sized([60] * count)), exact)


@given(SIZES, st.sampled_from([0.001, 10, 333.3, 1000, 100_000]))
def test_megabits_a_second_count_what_a_frame_takes_on_the_wire(sizes, mbps):
    exact, at = [], Fraction(0)
    for size in sizes:
        exact.append(at)
        at += (max(size + 4, 64) + 20) * 8 * 1000 / Fraction(mbps)
    pacer = Pacer("mbps", mbps)
    assert_close(pacer.plan(sized(sizes)), exact)
    assert abs(pacer.pass_ns - at) <= 1 + at * len(sizes) / 2**52


def test_gigabit_ethernet_takes_1488095_of_the_shortest_frames_a_second():
    assert [wire_bits_of(size) for size in (14, 60, 61, 1514)] == [672, 672, 680, 12304]
    plan = Pacer("mbps", 1000).plan(sized([60] * 1_488_096))
    assert plan[1_488_095] == pytest.approx(SECOND, abs=1000)


def test_a_million_packets_drift_by_no_nanosecond():
    plan = Pacer("pps", 3_000_000).plan(sized([60] * 1_000_000))
    assert abs(plan[999_999] - Fraction(999_999 * SECOND, 3_000_000)) <= 1


# -- several sets ---------------------------------------------------------------------------------

PACES = {
    "recorded": lambda: Pacer("recorded", 2.5, 7.0),
    "pps": lambda: Pacer("pps", 1234.5),
    "mbps": lambda: Pacer("mbps", 12.5),
}


@given(st.sampled_from(sorted(PACES)), GAPS, st.integers(0, 70))
def test_sets_one_after_the_other_are_planned_as_one(pace, gaps, cut):
    times = after(gaps)
    whole, parts = PACES[pace](), PACES[pace]()
    due = list(whole.plan(timed(times)))
    assert [*parts.plan(timed(times[:cut])), *parts.plan(timed(times[cut:]))] == due
    assert parts.pass_ns == whole.pass_ns


def test_a_file_that_begins_before_the_last_one_ended_follows_it_at_once():
    pacer = Pacer("recorded")
    assert list(pacer.plan(timed([START, START + 500]))) == [0, 500]
    assert list(pacer.plan(timed([START - SECOND, START + 100, START + 600]))) == [500, 500, 600]


def test_an_empty_set_has_an_empty_plan_and_takes_no_time():
    for pace in PACES.values():
        pacer = pace()
        assert len(pacer.plan(PacketSet())) == 0
        assert pacer.pass_ns == 0


def test_a_pass_of_recorded_times_ends_a_mean_gap_after_its_last_packet():
    pacer = Pacer("recorded")
    pacer.plan(timed([START, START + 100, START + 900]))
    assert pacer.pass_ns == 1350
    pacer = Pacer("pps", 1000)
    pacer.plan(sized([60] * 3))
    assert pacer.pass_ns == 3_000_000


# -- what can't be -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_pace_that_is_not_more_than_0_is_refused(value):
    for kind in PACES:
        with pytest.raises(ValueError, match="must be more than 0"):
            Pacer(kind, value)


def test_a_plan_is_indexed_within_its_packets_only():
    plan = Pacer("pps", 1).plan(sized([60, 60]))
    assert (plan[0], plan[1]) == (0, SECOND)
    with pytest.raises(IndexError):
        plan[2]


# -- choosing a side ------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2), max_size=40))
def test_a_side_keeps_its_packets_their_order_and_their_due_times(sides):
    packets = PacketSet()
    for index in range(len(sides)):
        packets.append(bytes([index]) * 20, ts_ns=START + index * 10, number=index + 5)
    plan = Pacer("recorded").plan(packets)
    for side in (0, 1):
        chosen, times = select(packets, plan, bytes(sides), side)
        mine = [index for index, its_side in enumerate(sides) if its_side == side]
        assert [packet[2] for packet in chosen] == [index + 5 for index in mine]
        assert [packet[1] for packet in chosen] == [bytes([index]) * 20 for index in mine]
        assert list(times) == [index * 10 for index in mine]
        assert select(packets, None, bytes(sides), side)[1] is None
    with pytest.raises(ValueError, match="a side is needed"):
        select(packets, plan, bytes(len(sides) + 1), 0)
