"""Sizes, durations, counts and number lists as people write them, both ways.

Parsing is exact: text goes through `Fraction`, never through a float, so that
``1.5GiB`` is the number of bytes it says, or an error. Sizes follow GNU
coreutils and the file-size suffixes of tcpdump: a bare ``K``, ``M``, ``G`` and
``KiB``, ``MiB``, ``GiB`` are powers of 1024, ``kB``, ``MB``, ``GB`` powers of
1000. Letters' case never matters. Counts of packets are decimal: ``10k`` is
10000.

Every error is a `UnitError` (a `ValueError`) whose text is one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# Sizes and counts end up in 64-bit signed words (off_t, the ledger's counters).
MAX_WHOLE = (1 << 63) - 1
# A list is held in memory, one entry a number: no machine has more CPUs or queues than this.
MAX_LIST_NUMBER = 65535
# 100 years: longer ones overflow what poll() and timers take, and are typing errors.
MAX_DURATION_S = 100 * 365 * 86400

_SIZE_FACTORS = {"": 1, "b": 1}
_COUNT_FACTORS = {"": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _SIZE_FACTORS[_letter] = _SIZE_FACTORS[_letter + "ib"] = 1024**_power
    _SIZE_FACTORS[_letter + "b"] = 1000**_power
    _COUNT_FACTORS[_letter] = 1000**_power

# Largest first: a duration's parts come in this order, each unit at most once.
_DURATION_UNITS = {
    "d": Fraction(86400),
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1000),
    "us": Fraction(1, 1000_000),
}
_DURATION_ALIASES = {"min": "m", "sec": "s", "µs": "us", "μs": "us"}

# 30 digits hold every value allowed, and stay below Python's limit on converting text to int.
_NUMBER = r"[0-9]{1,30}(?:\.[0-9]{1,30})?|\.[0-9]{1,30}"
_QUANTITY = re.compile(rf"({_NUMBER}) ?([A-Za-z]*)", re.ASCII)
_DURATION_PART = re.compile(rf"({_NUMBER}) ?([A-Za-zµμ]+) ?")
_LIST_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", re.ASCII)


class UnitError(ValueError):
    """Text that is not a quantity; the message is one line and shows the text."""


class SizeError(UnitError):
    """Text that is not a size in bytes."""


class DurationError(UnitError):
    """Text that is not a length of time."""


class CountError(UnitError):
    """Text that is not a count."""


class NumberListError(UnitError):
    """Text that is not a list of numbers such as ``0,2-3``."""


def _whole(text: str, factors: dict[str, int], error: type[UnitError], kind: str) -> int:
    """`text` as a whole number of `factors`' base unit; `kind` says what was expected."""
    match = _QUANTITY.fullmatch(text.strip())
    factor = factors.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise error(f"{text!r} is not {kind}")
    value = Fraction(match[1]) * factor
    if value.denominator != 1:
        raise error(f"{text!r} is not a whole number")
    if value > MAX_WHOLE:
        raise error(f"{text!r} does not fit in 63 bits")
    return int(value)


def parse_size(text: str) -> int:
    """Bytes from ``4096``, ``500k`` (512000), ``64MiB``, ``1.5G`` or ``1GB`` (10^9)."""
    return _whole(text, _SIZE_FACTORS, SizeError, "a size such as 65536, 500k, 64MiB or 1GB")


def parse_count(text: str) -> int:
    """A count from ``500``, ``10k`` (10000) or ``2.5M``."""
    return _whole(text, _COUNT_FACTORS, CountError, "a count such as 500, 10k or 1M")


def parse_decimal(text: str) -> float:
    """A number that may have a fraction, from ``2.5``, ``10k`` (10000) or ``1.5M``."""
    match = _QUANTITY.fullmatch(text.strip())
    factor = _COUNT_FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise CountError(f"{text!r} is not a number such as 2.5, 500 or 10k")
    return float(Fraction(match[1]) * factor)


def parse_duration(text: str) -> float:
    """Seconds from ``90``, ``0.5``, ``30s``, ``250ms`` or ``1h30m``."""
    stripped = text.strip()
    if re.fullmatch(_NUMBER, stripped):
        seconds = Fraction(stripped)
    else:
        seconds = _sum_duration_parts(text, stripped.lower())
    if seconds > MAX_DURATION_S:
        raise DurationError(f"{text!r} is longer than 100 years")
    return float(seconds)


def _sum_duration_parts(text: str, parts: str) -> Fraction:
    order = list(_DURATION_UNITS)
    total, position, last = Fraction(0), 0, -1
    while match := _DURATION_PART.match(parts, position):
        unit = _DURATION_ALIASES.get(match[2], match[2])
        if unit not in _DURATION_UNITS:
            break
        if order.index(unit) <= last:
            raise DurationError(f"{text!r} does not run from the largest unit to the smallest")
        last = order.index(unit)
        total += Fraction(match[1]) * _DURATION_UNITS[unit]
        position = match.end()
    if last < 0 or position != len(parts):
        raise DurationError(f"{text!r} is not a time such as 90, 30s, 250ms or 1h30m")
    return total


def parse_number_list(text: str) -> tuple[int, ...]:
    """Queue or CPU numbers from ``0,2-3``, in the order written, repetitions kept."""
    numbers: list[int] = []
    for part in text.split(","):
        match = _LIST_PART.fullmatch(part.strip())
        if match is None:
            raise NumberListError(f"{text!r} is not a list such as 0, 0-3 or 0,2-3")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first:
            raise NumberListError(f"{part.strip()!r} runs backwards, write {last}-{first}")
        if last > MAX_LIST_NUMBER or len(numbers) > MAX_LIST_NUMBER:
            raise NumberListError(f"{text!r} goes beyond {MAX_LIST_NUMBER}")
        numbers.extend(range(first, last + 1))
    return tuple(numbers)


def format_size(size_bytes: int) -> str:
    """The shortest exact spelling, which `parse_size` reads back: ``64MiB``, ``1000``."""
    for suffix, factor in (("TiB", 1 << 40), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{suffix}"
    return str(size_bytes)


def format_duration(seconds: float) -> str:
    """The spelling by parts, to the microsecond, which `parse_duration` reads back: ``1h30m``."""
    left_us = round(seconds * 1_000_000)
    text = ""
    for unit, length_s in _DURATION_UNITS.items():
        count, left_us = divmod(left_us, int(length_s * 1_000_000))
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def format_number_list(numbers: Iterable[int]) -> str:
    """Numbers with their runs folded, which `parse_number_list` reads back: ``0,2-3``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def format_grouped(number: int) -> str:
    """A whole number with its thousands set apart by spaces: ``1 234 567``."""
    return f"{number:,}".replace(",", " ")


def format_scaled(value: float, unit: str) -> str:
    """For reading, one decimal and an SI prefix: ``123.4 kpps``, ``0 pps``, ``1.2 Gb/s``."""
    prefix = ""
    for candidate in ("k", "M", "G", "T"):
        # 999.95 and not 1000: what would be printed as "1000.0" moves to the next prefix.
        if abs(value) < 999.95:
            break
        value, prefix = value / 1000, candidate
    digits = 0 if not prefix and value == int(value) else 1
    return f"{value:.{digits}f} {prefix}{unit}"


def format_bytes(size_bytes: float) -> str:
    """For reading, not exact, in powers of 1024: ``3.2 GiB``, ``512 B``."""
    prefix = ""
    for candidate in ("Ki", "Mi", "Gi", "Ti"):
        if abs(size_bytes) < 1023.95:
            break
        size_bytes, prefix = size_bytes / 1024, candidate
    return f"{size_bytes:.{1 if prefix else 0}f} {prefix}B"


def format_nanoseconds(time_ns: float) -> str:
    """For reading: ``850 ns``, ``1.2 us``, ``3.4 ms``, ``12.0 s``."""
    for unit, factor in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        # 999.95 and not 1000, as in format_scaled.
        if abs(time_ns) >= 0.99995 * factor:
            return f"{time_ns / factor:.1f} {unit}"
    return f"{time_ns:.0f} ns"
