"""The rotation clock: pure arithmetic on nanoseconds since 1970 UTC."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpcap.savefile.rotation import RotationClock

SECOND_NS = 1_000_000_000


def at(text: str, extra_ns: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.timestamp()) * SECOND_NS + extra_ns


@pytest.mark.parametrize(
    ("interval_s", "now", "deadline"),
    [
        (3600, "2026-11-21T09:30:00", "2026-11-21T10:00:00"),
        (60, "2026-11-21T09:30:59", "2026-11-21T09:31:00"),
        (900, "2026-11-21T09:30:00", "2026-11-21T09:45:00"),
        (86400, "2026-12-31T23:59:59", "2027-01-01T00:00:00"),
        (6 * 3600, "2026-11-21T09:30:00", "2026-11-21T12:00:00"),
    ],
)
def test_aligned_deadlines_fall_on_the_hour_minute_and_midnight(interval_s, now, deadline):
    assert RotationClock(interval_s, True, at(now)).deadline_ns == at(deadline)


def test_unaligned_deadlines_count_from_the_start():
    start = at("2026-11-21T09:30:12", 345)
    clock = RotationClock(60, False, start)
    assert clock.deadline_ns == start + 60 * SECOND_NS
    assert clock.next_ns(start + 61 * SECOND_NS) == start + 120 * SECOND_NS


def test_a_deadline_is_due_once():
    start = at("2026-11-21T09:59:59")
    clock = RotationClock(3600, True, start)
    assert not clock.due(start)
    assert not clock.due(start + SECOND_NS - 1)
    assert clock.due(start + SECOND_NS)
    assert not clock.due(start + SECOND_NS + 1)


def test_a_late_look_does_not_move_the_following_deadlines():
    start = at("2026-11-21T09:30:00")
    clock = RotationClock(10, False, start)
    assert clock.due(start + 17 * SECOND_NS)
    assert clock.deadline_ns == start + 20 * SECOND_NS


def test_a_clock_step_forward_over_many_intervals_gives_one_rotation():
    start = at("2026-11-21T09:30:00")
    clock = RotationClock(60, True, start)
    after = at("2026-11-23T11:11:11")
    assert clock.due(after)
    assert not clock.due(after + 1)
    assert clock.deadline_ns == at("2026-11-23T11:12:00")


@pytest.mark.parametrize("align", [True, False])
def test_a_clock_step_back_neither_rotates_nor_stops_rotation(align):
    start = at("2026-11-21T09:30:00")
    clock = RotationClock(60, align, start)
    before = at("2026-11-20T04:00:30")
    assert not clock.due(before)
    assert before < clock.deadline_ns <= before + 60 * SECOND_NS
    assert clock.due(clock.deadline_ns)


@given(
    st.floats(min_value=0.001, max_value=1e6),
    st.booleans(),
    st.integers(min_value=0, max_value=1 << 62),
    st.integers(min_value=0, max_value=1 << 62),
)
def test_the_next_deadline_is_always_ahead_by_at_most_one_interval(interval_s, align, start, now):
    clock = RotationClock(interval_s, align, start)
    assert now < clock.next_ns(now) <= now + clock.interval_ns
    assert clock.next_ns(clock.next_ns(now)) == clock.next_ns(now) + clock.interval_ns


@pytest.mark.parametrize("interval_s", [0, -1, 1e-10])
def test_an_interval_that_is_not_positive_is_refused(interval_s):
    with pytest.raises(ValueError, match="not positive"):
        RotationClock(interval_s, False, 0)
