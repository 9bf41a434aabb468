"""From CLOCK_MONOTONIC to a device's clock, on clocks that are made up and on real ones."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdpcap._deviceclock import best_offset, dynamic_clock, measured_offset

from xdpcap.errors import KernelError

DAY_NS = 86_400 * 10**9


class FakeClock:
    """A device that is `offset` ahead and whose answer is under way for (there, back) ns."""

    def __init__(self, now: int, offset: int) -> None:
        self.now, self.offset = now, offset

    def reading(self, there: int, back: int) -> tuple[int, int, int]:
        before = self.now
        device = before + there + self.offset
        self.now = before + there + back
        return before, device, self.now


ways = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=10)


@given(st.integers(0, 10**6 * DAY_NS // 10**3), st.integers(-DAY_NS, 20_000 * DAY_NS), ways)
def test_the_offset_is_wrong_by_half_of_the_shortest_reading_at_most(now, offset, ways):
    clock = FakeClock(now, offset)
    found = best_offset([clock.reading(*way) for way in ways])
    shortest = min(there + back for there, back in ways)
    assert abs(found - offset) <= shortest // 2 + 1


def test_a_reading_that_was_interrupted_does_not_count():
    clock = FakeClock(10**12, 37 * 10**9)
    readings = [clock.reading(2_000_000, 500), clock.reading(600, 600), clock.reading(500, 10**6)]
    assert best_offset(readings) == 37 * 10**9


def test_without_a_reading_there_is_no_offset():
    with pytest.raises(ValueError, match="no reading"):
        best_offset([])


def test_the_clock_itself_is_ahead_by_nothing():
    assert abs(measured_offset(time.CLOCK_MONOTONIC)) < 100_000


@pytest.mark.parametrize("clock", [time.CLOCK_REALTIME, time.CLOCK_TAI, time.CLOCK_BOOTTIME])
def test_a_due_time_moves_to_where_the_other_clock_will_be_then(clock):
    offset = measured_offset(clock)
    due_ns = time.monotonic_ns() + 2_000_000
    while time.monotonic_ns() < due_ns:
        pass
    # Late by the time that two calls take, and by as much more as the machine is busy.
    assert -20_000 < time.clock_gettime_ns(clock) - (due_ns + offset) < 50_000_000


def test_the_id_of_a_device_is_that_of_the_kernels_macro():
    # FD_TO_CLOCKID in tools/testing/selftests/ptp/testptp.c: (~fd << 3) | 3.
    assert dynamic_clock(0) == -5
    assert dynamic_clock(5) == -45


def test_a_descriptor_that_is_no_clock_is_an_error(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(KernelError, match="clock_gettime"):
        measured_offset(dynamic_clock(file.fileno()))
