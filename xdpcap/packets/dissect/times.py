"""The time before a packet's line, in tcpdump's formats.

A `Clock` remembers the first and the last packet; one of them belongs to one output.
Times of day and dates are local. Whole numbers all the way: nanoseconds never go through
a float.
"""

from __future__ import annotations

import time
from collections.abc import Callable

NS = 1_000_000_000
STYLES = ("absolute", "none", "epoch", "delta", "date", "relative")


class Clock:
    """Tells times as `style` says, with `digits` (6 or 9) behind the point; call it in order.

    absolute: `15:43:57.123456`; date: `2026-11-21 15:43:57.123456`; epoch:
    `1795275837.123456`; delta: since the line before, relative: since the first line, both
    as ` 00:00:01.000000`; none: "".
    """

    def __init__(self, style: str, digits: int = 6) -> None:
        self._digits = digits
        self._divisor = 10 ** (9 - digits)
        self._first_ns: int | None = None
        self._last_ns = 0
        self._second = -1
        self._said = ""
        self.text: Callable[[int], str] = getattr(self, f"_{style}")

    def _none(self, ts_ns: int) -> str:
        return ""

    def _epoch(self, ts_ns: int) -> str:
        second, fraction = divmod(ts_ns, NS)
        return f"{second}.{fraction // self._divisor:0{self._digits}d} "

    def _absolute(self, ts_ns: int) -> str:
        return self._local(ts_ns, "%H:%M:%S")

    def _date(self, ts_ns: int) -> str:
        return self._local(ts_ns, "%Y-%m-%d %H:%M:%S")

    def _local(self, ts_ns: int, layout: str) -> str:
        second, fraction = divmod(ts_ns, NS)
        if second != self._second:
            self._second, self._said = second, _local_text(second, layout)
        return f"{self._said}.{fraction // self._divisor:0{self._digits}d} "

    def _delta(self, ts_ns: int) -> str:
        before = ts_ns if self._first_ns is None else self._last_ns
        self._first_ns = self._last_ns = ts_ns
        return self._since(ts_ns - before)

    def _relative(self, ts_ns: int) -> str:
        if self._first_ns is None:
            self._first_ns = ts_ns
        return self._since(ts_ns - self._first_ns)

    def _since(self, span_ns: int) -> str:
        sign = "-" if span_ns < 0 else " "
        second, fraction = divmod(abs(span_ns), NS)
        minute, second = divmod(second, 60)
        hour, minute = divmod(minute, 60)
        clock = f"{sign}{hour:02d}:{minute:02d}:{second:02d}"
        return f"{clock}.{fraction // self._divisor:0{self._digits}d} "


def _local_text(second: int, layout: str) -> str:
    try:
        return time.strftime(layout, time.localtime(second))
    except (OverflowError, ValueError, OSError):
        # A file may claim any 64-bit time; no calendar has it.
        return str(second)


def utc_text(ts_ns: int) -> str:
    """`2026-11-21T15:43:57.123456789Z`; seconds since 1970 where no calendar has the time."""
    second, fraction = divmod(ts_ns, NS)
    try:
        shown = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    except (OverflowError, ValueError, OSError):
        return f"{second}.{fraction:09d}"
    return f"{shown}.{fraction:09d}Z"
