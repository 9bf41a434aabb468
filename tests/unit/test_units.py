"""options.units: what people write becomes the number it says, or one line saying why not."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xdpcap.options import units

sizes = st.integers(0, units.MAX_WHOLE)


@given(sizes)
@example(0)
@example(1 << 40)
def test_every_size_survives_being_written_and_read(size: int) -> None:
    assert units.parse_size(units.format_size(size)) == size


@given(st.integers(0, units.MAX_DURATION_S * 1000_000))
def test_every_duration_survives_to_the_microsecond(microseconds: int) -> None:
    seconds = microseconds / 1e6
    read = units.parse_duration(units.format_duration(seconds))
    assert abs(read - seconds) < 1e-6


@given(st.lists(st.integers(0, units.MAX_LIST_NUMBER), min_size=1))
def test_every_number_list_survives_in_its_order(numbers: list[int]) -> None:
    assert units.parse_number_list(units.format_number_list(numbers)) == tuple(numbers)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("65536", 65536),
        ("512B", 512),
        ("500k", 500 * 1024),
        ("500K", 500 * 1024),
        ("500kB", 500_000),
        ("500KiB", 500 * 1024),
        ("64MiB", 64 << 20),
        ("64mib", 64 << 20),
        ("64 MiB", 64 << 20),
        ("1G", 1 << 30),
        ("1GB", 10**9),
        ("1.5G", 3 << 29),
        (".5k", 512),
        ("2T", 2 << 40),
        (" 7 ", 7),
    ],
)
def test_a_bare_letter_is_binary_and_one_with_b_is_decimal(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("0.5", 0.5),
        ("30s", 30.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("1h 30min", 5400.0),
        ("250ms", 0.25),
        ("1s250ms", 1.25),
        ("10us", 1e-5),
        ("10µs", 1e-5),
        ("1.5d", 129600.0),
        ("1H", 3600.0),
    ],
)
def test_a_duration_without_a_unit_is_seconds(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"), [("500", 500), ("10k", 10_000), ("10K", 10_000), ("2.5M", 2_500_000)]
)
def test_counts_are_decimal(text: str, count: int) -> None:
    assert units.parse_count(text) == count


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0", (0,)), ("0,2-3", (0, 2, 3)), ("3,1", (3, 1)), ("0,0", (0, 0)), (" 1 , 2 ", (1, 2))],
)
def test_a_number_list_keeps_order_and_repetitions(text: str, numbers: tuple[int, ...]) -> None:
    assert units.parse_number_list(text) == numbers


NONSENSE = [
    "",
    " ",
    "x",
    "-1",
    "+1",
    "1e3",
    "0x10",
    "1,5",
    "1..5",
    "1.",
    "½",
    "٣",
    "1 2",
    "nan",
    "9" * 5000,
]


@pytest.mark.parametrize(
    ("parse", "error", "texts"),
    [
        (units.parse_size, units.SizeError, ["1Q", "1Bi", "1kk", "64 MiB B", "0.3k", "1b1", "9E"]),
        (units.parse_size, units.SizeError, ["9999999999G"]),
        (units.parse_count, units.CountError, ["1kB", "1Ki", "0.0001k", "99999999999T"]),
        (
            units.parse_duration,
            units.DurationError,
            ["1x", "30m1h", "1h1h", "1h30", "h", "1h-1s", "inf", "101y", "40000d", "1 h h"],
        ),
        (
            units.parse_number_list,
            units.NumberListError,
            [",", "1,", "1-", "-1", "1--2", "3-1", "0-99999", "1-2-3", "65536", "all"],
        ),
    ],
)
def test_nonsense_is_refused_in_one_line_that_shows_it(parse, error, texts: list[str]) -> None:
    nonsense = [*NONSENSE, *texts]
    if parse is units.parse_number_list:
        nonsense.remove("1,5")
    for text in nonsense:
        with pytest.raises(error) as caught:
            parse(text)
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith(repr(text)) or text == "3-1", text


def test_a_list_too_long_for_memory_is_refused_at_once() -> None:
    with pytest.raises(units.NumberListError, match="65535"):
        units.parse_number_list("0-999999999")
    with pytest.raises(units.NumberListError, match="65535"):
        units.parse_number_list(",".join(["0-65535"] * 100_000))


@given(st.text())
def test_no_text_raises_anything_but_a_unit_error(text: str) -> None:
    for parse in (
        units.parse_size,
        units.parse_count,
        units.parse_duration,
        units.parse_number_list,
    ):
        try:
            parse(text)
        except units.UnitError as error:
            assert "\n" not in str(error)


@given(st.fractions(0, 10**6, max_denominator=1024))
def test_a_fraction_of_a_unit_is_exact_or_refused(value: Fraction) -> None:
    text = f"{value.numerator / value.denominator:.20f}k"
    exact = Fraction(text[:-1]) * 1024
    if exact.denominator == 1:
        assert units.parse_size(text) == exact
    else:
        with pytest.raises(units.SizeError, match="whole"):
            units.parse_size(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (5400, "1h30m"), (0.25, "250ms"), (59.9999999, "1m")]
)
def test_a_duration_is_written_by_its_parts(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


def test_numbers_for_reading_have_a_prefix_that_fits() -> None:
    assert units.format_grouped(1234567) == "1 234 567"
    assert units.format_grouped(0) == "0"
    assert units.format_scaled(0, "pps") == "0 pps"
    assert units.format_scaled(999.94, "pps") == "999.9 pps"
    assert units.format_scaled(999.96, "pps") == "1.0 kpps"
    assert units.format_scaled(123_400, "pps") == "123.4 kpps"
    assert units.format_scaled(8e8, "b/s") == "800.0 Mb/s"
    assert units.format_bytes(512) == "512 B"
    assert units.format_bytes(3 * units.GIB + 200 * units.MIB) == "3.2 GiB"
    assert units.format_bytes(1024 * 1024 - 1) == "1.0 MiB"


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0.0), ("2.5", 2.5), (".5", 0.5), ("10k", 10_000.0), ("1.5 M", 1_500_000.0)],
)
def test_numbers_may_have_a_fraction(text: str, number: float) -> None:
    assert units.parse_decimal(text) == number


@pytest.mark.parametrize("text", ["", "fast", "-1", "1e3", "10kB", "1.", "nan", "inf", "٣"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(units.CountError, match="is not a number such as"):
        units.parse_decimal(text)


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1000, "1.0 us"),
        (999_949, "999.9 us"),
        (999_950, "1.0 ms"),
        (1_234_567, "1.2 ms"),
        (12_000_000_000, "12.0 s"),
        (-1500, "-1.5 us"),
    ],
)
def test_nanoseconds_are_read_in_the_unit_that_fits(time_ns: int, text: str) -> None:
    assert units.format_nanoseconds(time_ns) == text
