"""--sweep: which combinations are measured, and what is written of them."""

from __future__ import annotations

import csv
import io

import pytest

from xdpcap.bench.sweep_plot import check_plot, plot
from xdpcap.errors import UsageError
from xdpcap.options.sweep import COLUMNS, as_csv, combinations, parse_sweep
from xdpcap.options.units import parse_size

SETTINGS = {"batch": ("batch", int), "frame-size": ("frame_size", parse_size)}


def test_every_value_meets_every_other_and_the_last_setting_changes_first():
    dimensions = parse_sweep(["batch=16,64", "frame-size=2k,4096"], SETTINGS)
    assert list(combinations(dimensions)) == [
        (("16", "2k"), {"batch": 16, "frame_size": 2048}),
        (("16", "4096"), {"batch": 16, "frame_size": 4096}),
        (("64", "2k"), {"batch": 64, "frame_size": 2048}),
        (("64", "4096"), {"batch": 64, "frame_size": 4096}),
    ]


def test_one_word_may_hold_several_settings():
    assert parse_sweep(["batch=1 frame-size=2k"], SETTINGS) == parse_sweep(
        ["batch=1", "frame-size=2k"], SETTINGS
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["batch"], "NAME=VALUE"),
        (["batch="], "NAME=VALUE"),
        (["bath=1"], "choose among batch, frame-size"),
        (["batch=1", "batch=2"], "twice"),
        (["batch=one"], "--sweep batch"),
        (["frame-size=1.5"], "--sweep frame-size"),
    ],
)
def test_what_is_no_sweep_is_one_line(words, said):
    with pytest.raises(UsageError, match=said) as caught:
        parse_sweep(words, SETTINGS)
    assert "\n" not in str(caught.value)


def test_the_csv_has_a_line_a_combination_as_it_was_written():
    dimensions = parse_sweep(["batch=16,64"], SETTINGS)
    rows = [(words, {"pps": 1e6 * n}) for n, (words, _) in enumerate(combinations(dimensions), 1)]
    header, *lines = csv.reader(io.StringIO(as_csv(dimensions, rows)))
    assert header == ["batch", *COLUMNS]
    assert [line[:2] for line in lines] == [["16", "1000000.0"], ["64", "2000000.0"]]


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_picture_has_a_line_for_each_combination_of_the_other_settings(tmp_path, suffix):
    dimensions = parse_sweep(["batch=16,64,256", "frame-size=2k,4k"], SETTINGS)
    rows = [(words, {"pps": 1e6 * n}) for n, (words, _) in enumerate(combinations(dimensions))]
    path = tmp_path / f"sweep{suffix}"
    check_plot(str(path))
    plot(str(path), "rx-drop on eth1", dimensions, rows)
    start = path.read_bytes()[:400]
    assert start.startswith(b"\x89PNG") or b"<svg" in start


def test_a_picture_that_can_not_be_made_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(UsageError, match=r"\.svg"):
        check_plot(str(tmp_path / "sweep.gif"))
    with pytest.raises(UsageError, match="directory"):
        check_plot(str(tmp_path / "nowhere" / "sweep.svg"))
