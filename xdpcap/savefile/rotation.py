"""When the next file begins.

Deadlines stand on the wall clock (UTC), so that they come whether packets
arrive or not and file names line up with what the clock said. Owned by one
thread; nothing to free.
"""

from __future__ import annotations


class RotationClock:
    """Deadlines every `interval_s` seconds, read with clock_gettime(CLOCK_REALTIME).

    With `align` they are multiples of the interval since 1970-01-01T00:00:00Z.
    A UTC day has 86400 seconds on this clock, so an interval that divides a
    day falls on midnight, the hour and the minute, and one that doesn't still
    has a fixed grid. Without `align` they count from `now_ns`, the start.

    The wall clock may be set while recording. A step forward over any number
    of deadlines makes one rotation. A step back makes none by itself: the next
    deadline is the first after the new time, even if that time came before.
    """

    def __init__(self, interval_s: float, align: bool, now_ns: int) -> None:
        self.interval_ns = round(interval_s * 1_000_000_000)
        if self.interval_ns <= 0:
            raise ValueError(f"rotation interval {interval_s} s is not positive")
        self._origin_ns = 0 if align else now_ns
        self.deadline_ns = self.next_ns(now_ns)

    def next_ns(self, now_ns: int) -> int:
        """The first deadline after `now_ns` (never `now_ns` itself), in ns since 1970 UTC."""
        passed = (now_ns - self._origin_ns) // self.interval_ns
        return self._origin_ns + (passed + 1) * self.interval_ns

    def due(self, now_ns: int) -> bool:
        """True once when the pending deadline has passed; then the next one is pending."""
        passed = now_ns >= self.deadline_ns
        # Also without a rotation: after a step back the old deadline may be far away.
        self.deadline_ns = self.next_ns(now_ns)
        return passed
