"""The senders' benchmark: which goals its samples reach, and what it reads from programs."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

# Last: another build of the package may be the one under test.
sys.path.append(str(Path(__file__).parents[2]))

from benchmarks.goals import MISSED, REACHED, UNDECIDED
from benchmarks.machine import Activity
from benchmarks.recorders import BenchmarkError
from benchmarks.sending import programs
from benchmarks.sending.gaps import CLOCK
from benchmarks.sending.programs import BARE, OURS, PACKETS, TCPREPLAY, write_capture
from benchmarks.sending.report import Report, load
from benchmarks.sending.results import GapSample, RateSample, Samples
from xdpcap.bench.lab.frames import frame_number
from xdpcap.bench.pieces import clock_times
from xdpcap.errors import UsageError
from xdpcap.savefile.reader import read_packets

QUIET = Activity(busy_s=2.5, steal=0.0, load=1.0)
ABOUT = {
    **{"cpu": "any", "cpus": 2, "virtual": True, "memory_bytes": 1 << 34, "kernel": "6.18"},
    **{"os": "Debian", "python": "3.11", "tools": {"tcpreplay": None}, "layout": "two CPUs"},
}


def rates(*rows: tuple[str, float]) -> Samples[RateSample]:
    """Three rounds with bare loops of 2 Mpps between; a row is a name and its Mpps."""
    result: Samples[RateSample] = Samples("send-64", 60)
    for number in (1, 2, 3):
        for name, mpps in (*[pair for row in rows for pair in ((BARE, 2.0), row)], (BARE, 1.98)):
            sample = RateSample(name, number, int(mpps * 2.5e6), 2.5, QUIET, 2e6)
            result.samples.append(sample)
    return result


def gaps(**p99_ns: float) -> Samples[GapSample]:
    """Three rounds; the median is a fiftieth of each p99."""
    result: Samples[GapSample] = Samples("gaps-10k", 10_000)
    for number in (1, 2, 3):
        for name, value in p99_ns.items():
            row = {"clock": CLOCK, "ours": OURS, "theirs": TCPREPLAY}.get(name, name)
            sample = GapSample(row, number, value / 50, value, 2 * value, 9 * value, QUIET)
            result.samples.append(sample)
    return result


def goal_outcomes(*, rate=(), gap=()) -> dict[str, str]:
    report = Report(ABOUT, list(rate), list(gap))
    return {goal.asked: goal.outcome for goal in report.goals}


def test_a_replay_near_the_bare_loop_and_far_ahead_of_tcpreplay_reaches_both_goals():
    found = goal_outcomes(rate=[rates((OURS, 1.9), (TCPREPLAY, 1.0))])
    assert found == {
        "90% of the bare loop": REACHED,
        "1.7 times tcpreplay's packets/s": REACHED,
    }


def test_the_fastest_tcpreplay_counts():
    found = goal_outcomes(rate=[rates((OURS, 1.7), (TCPREPLAY, 0.5), ("tcpreplay --xdp", 1.5))])
    assert found["1.7 times tcpreplay's packets/s"] == MISSED
    assert found["90% of the bare loop"] == MISSED


def test_the_most_exact_tcpreplay_counts():
    found = goal_outcomes(gap=[gaps(clock=10, ours=90, theirs=1000)])
    assert set(found.values()) == {REACHED}
    found = goal_outcomes(gap=[gaps(clock=10, ours=90, theirs=1000, **{"tcpreplay gtod": 800})])
    assert set(found.values()) == {MISSED}


def test_one_round_alone_decides_nothing():
    result = rates((OURS, 1.9), (TCPREPLAY, 1.0))
    result.samples = [sample for sample in result.samples if sample.round == 1]
    assert set(goal_outcomes(rate=[result]).values()) == {UNDECIDED}


def test_the_noise_floor_is_what_bare_loops_of_a_round_differ_by():
    assert rates((OURS, 1.9)).floor(BARE, lambda s: s.pps) == pytest.approx(0.01)


def test_a_saved_report_reads_the_same_when_loaded(tmp_path):
    report = Report(ABOUT, [rates((OURS, 1.9))], [gaps(clock=10, ours=90, theirs=1000)])
    report.rates[0].failures["tcpreplay"] = "it does not end"
    report.save(tmp_path / "replay.json")
    assert load(tmp_path / "replay.json").markdown == report.markdown
    assert "tcpreplay is missing: it does not end" in report.markdown
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UsageError, match="no report"):
        load(tmp_path / "other.json")


def test_the_capture_holds_numbered_frames_of_the_size(tmp_path):
    path = write_capture(tmp_path, 60)
    packets = list(read_packets(path))
    assert [frame_number(packet.data) for packet in packets] == list(range(PACKETS))
    assert {len(packet.data) for packet in packets} == {60}
    assert packets[-1].ts_ns == (PACKETS - 1) * 1000


def test_a_sender_without_a_count_of_its_own_is_an_error_where_one_is_due():
    paced, *_ = programs.tcpreplays_at(10_000, 50_000)
    assert paced.sent("", "Actual: 50000 packets (3000000 bytes) sent in 5.00 seconds\n") == 50_000
    with pytest.raises(BenchmarkError):
        paced.sent("", "Fatal Error")


def test_the_clock_loop_is_never_early():
    begun_ns = time.monotonic_ns()
    times = memoryview(clock_times(10_000, 200)).cast("q")
    assert len(times) == 200
    assert all(time_ns >= begun_ns + n * 10_000 for n, time_ns in enumerate(times, 1))
