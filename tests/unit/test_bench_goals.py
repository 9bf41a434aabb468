"""The benchmark's conclusions: differences, and results that stay undecided."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

# Last: another build of the package may be the one under test.
sys.path.append(str(Path(__file__).parents[2]))

from benchmarks.goals import MISSED, REACHED, UNDECIDED, goals
from benchmarks.machine import Activity, Process, Snapshot, activity
from benchmarks.measure import Sample, Scenario
from benchmarks.noise import Finding, against, compare, floor_of, summarize
from benchmarks.recorders import DROP_LOOP, OURS
from benchmarks.report import load, markdown, save
from benchmarks.results import Results

SMALL = Scenario("64-memory", 60, 1_000_000, True, Path("/dev/shm"), Path("/dev/shm"))
ABOUT = {
    **{"cpu": "any", "cpus": 2, "virtual": True, "memory_bytes": 1 << 34, "kernel": "6.18"},
    **{"os": "Debian", "python": "3.11", "tools": {"fio": None}, "layout": "two CPUs"},
}


def sample(row: str, number: int, *, seconds: float, lost: int = 0, cpu_ns: float = 60) -> Sample:
    kept = SMALL.count - lost
    return Sample(
        row=row,
        round=number,
        sent=SMALL.count,
        arrived=SMALL.count,
        kept=kept,
        send_s=seconds,
        file_bytes=kept * SMALL.record_bytes,
        recorder_cpu_s=kept * cpu_ns / 1e9,
        life_cpu_s=1.0,
        machine=Activity(busy_s=0.4, steal=0.0, load=1.0),
        reference_pps=SMALL.count / 0.5,
    )


def rounds(*rows: tuple[str, float, float]) -> Results:
    """Three rounds; a row is (name, seconds of sending, CPU ns a packet), drop loops between."""
    results = Results(SMALL, 0.05)
    for number in (1, 2, 3):
        for name, seconds, cpu_ns in rows:
            results.samples += [
                sample(DROP_LOOP, number, seconds=0.5, cpu_ns=10),
                sample(name, number, seconds=seconds * (1 + number / 1000), cpu_ns=cpu_ns),
            ]
        # The last drop loop of a round is 1% slower: that is the noise of this machine.
        results.samples.append(sample(DROP_LOOP, number, seconds=0.505, cpu_ns=10))
    return results


def goal_outcomes(results: Results) -> dict[str, str]:
    return {goal.asked: goal.outcome for goal in goals([results])}


def test_a_single_outlier_moves_the_range_and_not_the_spread():
    quiet = summarize([1.0, 1.01, 0.99, 1.0, 5.0])
    assert quiet.median == 1.0
    assert quiet.high == 5.0
    assert quiet.spread < 0.02


def test_the_floor_covers_all_but_one_in_twenty_differences():
    assert floor_of([0.01] * 19 + [0.5]) == 0.01
    assert floor_of([0.01] * 18 + [0.5] * 2) == 0.5
    assert floor_of([]) == math.inf


@pytest.mark.parametrize(
    ("ratios", "floor", "finding"),
    [
        ([1.2, 1.3, 1.25], 0.1, Finding.MORE),
        ([0.7, 0.8, 0.75], 0.1, Finding.LESS),
        ([1.2, 1.3, 0.99], 0.1, Finding.NOISE),
        ([1.05, 1.06, 1.07], 0.1, Finding.NOISE),
        ([1.5, 1.5], 0.1, Finding.NOISE),
        ([9.0, 9.0, 9.0], math.inf, Finding.NOISE),
    ],
)
def test_a_difference_needs_every_round_and_more_than_the_floor(ratios, floor, finding):
    assert compare(ratios, floor) is finding


def test_a_bound_that_some_rounds_reach_is_undecided():
    assert against([0.96, 0.97, 0.95], 0.95) is Finding.MORE
    assert against([0.94, 0.97, 0.96], 0.95) is Finding.NOISE
    assert against([0.94, 0.90, 0.93], 0.95) is Finding.LESS


def test_less_cpu_than_a_peer_is_ahead_and_more_is_behind():
    results = rounds((OURS, 0.5, 60), ("frugal", 0.6, 40), ("greedy", 0.9, 90))
    assert results.finding(OURS, "greedy", "recorder CPU")[1] is Finding.MORE
    assert results.finding(OURS, "frugal", "recorder CPU")[1] is Finding.LESS
    assert results.finding(OURS, "frugal", "packets/s")[1] is Finding.MORE


def test_one_peer_ahead_misses_the_goal_of_being_ahead_of_all():
    found = goal_outcomes(rounds((OURS, 0.5, 60), ("frugal", 0.6, 40), ("greedy", 0.9, 90)))
    assert found["ahead of every peer in packets/s"] == REACHED
    assert found["ahead of every peer in recorder CPU"] == MISSED
    assert found["ahead of every peer in machine CPU"] == UNDECIDED


def test_packets_lost_in_one_round_leave_the_goal_undecided_and_in_all_miss_it():
    results = rounds((OURS, 0.5, 60))
    assert goal_outcomes(results)["no packet lost"] == REACHED
    results.samples.append(sample(OURS, 4, seconds=0.5, lost=1))
    assert goal_outcomes(results)["no packet lost"] == UNDECIDED
    results.samples = [
        replace(one, kept=one.kept - 1) if one.row == OURS else one for one in results.samples
    ]
    assert goal_outcomes(results)["no packet lost"] == MISSED


def test_a_row_that_spreads_is_noisy_and_the_others_are_not():
    results = rounds((OURS, 0.5, 60), ("steady", 0.6, 40))
    results.samples += [sample(OURS, n, seconds=0.5 + n / 10) for n in (4, 5, 6)]
    assert results.row(OURS).noisy
    assert not results.row("steady").noisy


def test_a_saved_report_reads_the_same_when_loaded(tmp_path):
    results = rounds((OURS, 0.5, 60), ("greedy", 0.9, 90))
    results.failures["absent"] = "it received nothing"
    save(tmp_path / "record.json", ABOUT, [results])
    about, loaded = load(tmp_path / "record.json")
    assert markdown(about, loaded) == markdown(ABOUT, [results])
    assert "absent is missing: it received nothing" in markdown(about, loaded)


def test_other_processes_are_named_and_those_measured_and_the_kernels_are_not():
    def at(busy_s: float, total_s: float, cpu_s: float) -> Snapshot:
        processes = {
            1: Process("recorder", cpu_s, False),
            2: Process("compiler", cpu_s, False),
            3: Process("kworker", cpu_s, True),
        }
        return Snapshot(busy_s, 0.0, total_s, 0.5, processes)

    found = activity(at(0, 0, 0), at(4, 8, 2), measured=[1])
    assert [name for name, _ in found.others] == ["compiler"]
    assert found.busy_s == 4
