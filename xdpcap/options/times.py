"""Moments as people write them: a time of day, a date with a time, or so long from now.

Local time is meant wherever no zone is given, as in `at` and `date -d`. The
result is exact to the nanosecond: fractions never go through a float.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from fractions import Fraction

from xdpcap.options.units import MAX_DURATION_S, MAX_WHOLE, UnitError, parse_duration

NS = 1_000_000_000
# 9 digits are whole nanoseconds.
_FRACTION = r"(?:[.,]([0-9]{1,9}))?"
_TIME_OF_DAY = re.compile(rf"([0-9]{{1,2}}):([0-9]{{2}})(?::([0-9]{{2}}){_FRACTION})?", re.ASCII)
_EPOCH = re.compile(r"@([0-9]{1,12}(?:\.[0-9]{1,9})?)", re.ASCII)
_ISO_FRACTION = re.compile(r"(?<=:[0-9]{2}:[0-9]{2})[.,]([0-9]{1,9})", re.ASCII)
WANTED = "such as 14:30, 2030-01-31T14:30:00, +10s or @1900000000"


class InstantError(UnitError):
    """Text that is no moment, or one that has passed; the message is one line."""


def parse_instant(text: str, now_ns: int) -> int:
    """Nanoseconds since 1970 from ``14:30[:00]``, ISO 8601, ``+10s`` or ``@1900000000``.

    `now_ns` is the time by the same clock. A time of day is the next one to
    come, today or tomorrow; any other moment must not lie before `now_ns`.
    """
    stripped = text.strip()
    if stripped.startswith("+"):
        return now_ns + _after(text, stripped[1:])
    if match := _EPOCH.fullmatch(stripped):
        at_ns = int(Fraction(match[1]) * NS)
    elif match := _TIME_OF_DAY.fullmatch(stripped):
        return _next_time_of_day(text, match, now_ns)
    else:
        at_ns = _iso(text, stripped)
    if at_ns < now_ns:
        raise InstantError(f"{text!r} has passed; use a time to come")
    if at_ns > min(now_ns + MAX_DURATION_S * NS, MAX_WHOLE):
        raise InstantError(f"{text!r} is more than 100 years from now")
    return at_ns


def _after(text: str, duration: str) -> int:
    try:
        return round(parse_duration(duration) * NS)
    except UnitError:
        raise InstantError(f"{text!r} is not a time {WANTED}") from None


def _next_time_of_day(text: str, match: re.Match[str], now_ns: int) -> int:
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    fraction_ns = int((match[4] or "").ljust(9, "0"))
    today = datetime.fromtimestamp(now_ns // NS)
    try:
        moment = today.replace(hour=hour, minute=minute, second=second)
    except ValueError:
        raise InstantError(f"{text!r} is no time of day; use one from 00:00 to 23:59:59") from None
    # Where clocks are put back, an hour of the day comes twice.
    for day in (moment.replace(fold=0), moment.replace(fold=1)):
        at_ns = int(day.timestamp()) * NS + fraction_ns
        if at_ns >= now_ns:
            return at_ns
    return int((moment + timedelta(days=1)).timestamp()) * NS + fraction_ns


def _iso(text: str, stripped: str) -> int:
    fraction = _ISO_FRACTION.search(stripped)
    fraction_ns = int(fraction[1].ljust(9, "0")) if fraction else 0
    try:
        moment = datetime.fromisoformat(_ISO_FRACTION.sub("", stripped))
        return int(moment.timestamp()) * NS + fraction_ns
    except (ValueError, OverflowError):
        raise InstantError(f"{text!r} is not a time {WANTED}") from None
