"""What is added to the program's clock to make it UTC."""

from __future__ import annotations

import time

from xdpcap.record.capture import utc_offset_ns

# Between two readings of a clock this process may be away for so long.
AWAY_NS = 100_000_000


def test_the_offset_of_the_tai_clock_is_whole_seconds_and_never_wavers():
    """The kernel counts both with one timekeeper; anything else is the time a reading takes."""
    offsets = {utc_offset_ns("tai") for _ in range(2000)}
    assert len(offsets) == 1
    (offset,) = offsets
    assert offset % 1_000_000_000 == 0
    measured = time.time_ns() - time.clock_gettime_ns(time.CLOCK_TAI)
    assert abs(offset - measured) < AWAY_NS


def test_the_offset_of_the_monotonic_clock_is_that_of_its_start():
    before = time.time_ns()
    offset = utc_offset_ns("monotonic")
    assert before <= time.monotonic_ns() + offset <= time.time_ns() + 1_000_000
    # The best of five readings is off by less than a system call takes.
    offsets = [utc_offset_ns("monotonic") for _ in range(200)]
    offsets.sort()
    assert offsets[180] - offsets[20] < 1_000_000
