"""From CLOCK_MONOTONIC to a device's clock, on clocks that are made up and on real ones."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpcap.errors import KernelError
from xdpcap.host.clocks import Ahead, best_offset, dynamic_clock, measured_offset

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


# --- against UTC


@pytest.mark.parametrize("clock", [time.CLOCK_REALTIME, time.CLOCK_TAI, time.CLOCK_BOOTTIME])
def test_what_a_clock_is_ahead_of_utc_is_found_by_calls_where_no_driver_reads_it(clock):
    ahead = Ahead(clock)
    found = ahead.measure()
    assert ahead.way == "by calls"
    now = time.clock_gettime_ns(clock) - time.time_ns()
    assert abs(found - now) < 50_000_000


@given(st.integers(-DAY_NS, 20_000 * DAY_NS), ways)
def test_of_clocks_a_constant_apart_no_reading_leads_away_from_it(offset, ways):
    clock, ahead, found = FakeClock(DAY_NS, offset), Ahead(time.CLOCK_TAI), None
    for way in ways:
        before, found = found, ahead.follow(*clock.reading(*way))
        assert found == before or abs(found - offset) <= sum(way) // 2 + 1


def test_what_no_reading_contradicts_stays_as_it_is_to_the_nanosecond_and_drift_is_followed():
    clock, ahead = FakeClock(DAY_NS, 37 * 10**9), Ahead(time.CLOCK_TAI)
    first = ahead.follow(*clock.reading(500, 500))
    assert first == 37 * 10**9
    # Read with all the noise that there is: half of the time that it takes, either way.
    assert {ahead.follow(*clock.reading(*way)) for way in [(0, 1000), (1000, 0), (3, 900)]} == {
        first
    }
    for _ in range(10):
        clock.offset += 1000
        assert abs(ahead.follow(*clock.reading(400, 600)) - clock.offset) <= 501


def test_a_clock_that_can_not_be_read_is_an_error_for_utc_too(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(KernelError, match="clock_gettime"):
        Ahead(dynamic_clock(file.fileno())).measure()
