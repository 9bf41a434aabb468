"""The tests of the lab that guests run are there, and newer kernels run all that older ones do."""

from __future__ import annotations

from guests.archive import KERNEL_SUITES
from guests.lab import NEWEST, lab_tests
from guests.machine import ROOT


def test_each_test_that_is_named_is_in_its_file_and_named_once() -> None:
    named = lab_tests(NEWEST)
    assert len(set(named)) == len(named)
    missing = [
        test
        for test in named
        for path, name in [test.split("::")]
        if f"def {name.partition('[')[0]}(" not in (ROOT / path).read_text()
    ]
    assert not missing


def test_the_newest_kernel_is_one_of_those_there_are_and_runs_more() -> None:
    assert list(KERNEL_SUITES)[-1] == NEWEST
    assert set(lab_tests("5.10")) < set(lab_tests(NEWEST))
