"""options.times: a moment is read to the nanosecond, in local time, and never in the past."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpcap.options.times import NS, InstantError, parse_instant


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Berlin's zone, by its rules: the machine need not know its name."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(*fields: int, ahead_h: int = 2) -> int:
    """Nanoseconds since 1970 of a local time that is so many hours ahead of UTC."""
    zone = timezone(timedelta(hours=ahead_h))
    return int(datetime(*fields, tzinfo=zone).timestamp()) * NS  # type: ignore[misc, arg-type]


NOON = at(2030, 6, 15, 12)


@pytest.mark.parametrize(
    ("text", "moment_ns"),
    [
        ("14:30", at(2030, 6, 15, 14, 30)),
        ("12:00", NOON),
        ("11:59", at(2030, 6, 16, 11, 59)),
        ("0:00", at(2030, 6, 16)),
        ("23:59:59.5", at(2030, 6, 15, 23, 59, 59) + NS // 2),
        ("12:00:00.000000001", NOON + 1),
        ("2030-06-15T14:30", at(2030, 6, 15, 14, 30)),
        ("2030-06-15 14:30:00", at(2030, 6, 15, 14, 30)),
        ("2030-06-15T14:30:00.123456789", at(2030, 6, 15, 14, 30) + 123456789),
        ("2030-06-15T14:30:00,25+02:00", at(2030, 6, 15, 14, 30) + NS // 4),
        ("2030-06-15T12:30:00Z", at(2030, 6, 15, 14, 30)),
        ("2030-12-15", at(2030, 12, 15, ahead_h=1)),
        ("+10s", NOON + 10 * NS),
        ("+1h30m", NOON + 5400 * NS),
        ("+0.000001", NOON + 1000),
        (f"@{NOON // NS}", NOON),
        (f"@{NOON // NS}.000000001", NOON + 1),
    ],
)
def test_a_moment_is_read_as_it_is_meant(text: str, moment_ns: int) -> None:
    assert parse_instant(text, NOON) == moment_ns


def test_the_hour_that_comes_twice_is_the_next_one_to_come() -> None:
    # On 2030-10-27 clocks go from 3:00 back to 2:00.
    first, second = at(2030, 10, 27, 2, 30), at(2030, 10, 27, 2, 30, ahead_h=1)
    assert second - first == 3600 * NS
    assert parse_instant("2:30", at(2030, 10, 27, 1)) == first
    assert parse_instant("2:30", first + 60 * NS) == second
    assert parse_instant("2:30", second + 60 * NS) == at(2030, 10, 28, 2, 30, ahead_h=1)


@pytest.mark.parametrize("text", ["2030-06-15T11:59:59", "2000-01-01", "@0", "@1893456000"])
def test_what_has_passed_is_refused(text: str) -> None:
    with pytest.raises(InstantError, match="has passed"):
        parse_instant(text, NOON)


@pytest.mark.parametrize("text", ["9999-12-31", "2230-01-01T00:00:00", "@999999999999"])
def test_what_nobody_waits_for_is_refused(text: str) -> None:
    with pytest.raises(InstantError, match="100 years"):
        parse_instant(text, NOON)


@pytest.mark.parametrize(
    "text",
    [
        *("", "noon", "24:00", "12:60", "12:00:60", "1:2", "+", "+x", "-5s", "@", "@-1", "@1e9"),
        *("٣:00", "2030-13-01", "2030-06-15T25:00", "12:00:00.1234567890"),
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InstantError):
        parse_instant(text, NOON)


@given(st.text(max_size=40))
def test_any_text_is_a_moment_to_come_or_one_line_of_error(text: str) -> None:
    try:
        assert parse_instant(text, NOON) >= NOON
    except InstantError as error:
        assert "\n" not in str(error)
