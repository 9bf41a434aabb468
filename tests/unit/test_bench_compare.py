"""The comparison of pieces with a stored baseline: what fails, what passes, what is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from click.testing import CliRunner

# Last: another build of the package may be the one under test.
sys.path.append(str(Path(__file__).parents[2]))

from benchmarks import baseline, compare, parts
from benchmarks.parts import Row
from benchmarks.pieces import LIMIT
from benchmarks.recorders import BenchmarkError
from xdpcap.errors import XdpcapError

HERE = {"cpu": "2 x any", "kernel": "6.18"}
ELSEWHERE = {"cpu": "8 x other", "kernel": "6.18"}
# A memcpy() takes a microsecond here, unless the machine is slower.
US = 1e-6


@pytest.fixture(autouse=True)
def state(monkeypatch, tmp_path: Path) -> Path:
    """A home for baselines that no measurement of this machine shares."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def rows(limit: float = US, **ratios: float) -> list[Row]:
    """One run: a group "g" whose memcpy() takes `limit` seconds."""
    names = {LIMIT: 1.0} | ratios
    return [Row("g", name, limit * ratio, f"node of {name}") for name, ratio in names.items()]


def always(run: list[Row]) -> Callable[[Collection[str]], list[Row]]:
    """A machine without noise."""
    return lambda nodes: [row for row in run if not nodes or row.node in nodes]


def stored() -> dict[str, float]:
    found = baseline.load(baseline.place(HERE))
    return {} if found is None else dict(found.ratios)


@pytest.fixture
def known(capsys) -> None:
    """A baseline in which encoding takes twice a memcpy(), and reading four times one."""
    assert not compare.run(always(rows(encoding=2.0, reading=4.0)), HERE, 3)
    capsys.readouterr()


# -- worse or not ---------------------------------------------------------------------------------


def test_a_ratio_that_got_25_percent_worse_fails_and_is_shown(known, capsys):
    assert compare.run(always(rows(encoding=2.5, reading=4.0)), HERE, 3)
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if "worse" in line and "encoding" in line]
    assert line.split() == ["g:", "encoding", "2.00", "2.50", "+25%", "worse"]
    assert "1 of 2 pieces got 20% worse" in said


def test_a_ratio_that_got_15_percent_worse_passes(known, capsys):
    assert not compare.run(always(rows(encoding=2.3, reading=4.0)), HERE, 3)
    said = capsys.readouterr().out
    assert "+15%" in said
    assert "no piece got 20% worse" in said


def test_20_percent_itself_is_worse_whatever_floating_point_makes_of_it(known):
    assert compare.run(always(rows(encoding=2.4, reading=4.0)), HERE, 3)
    assert not compare.run(always(rows(encoding=2.39, reading=4.0)), HERE, 3)


def test_twice_the_seconds_at_the_same_ratio_pass(known, capsys):
    assert not compare.run(always(rows(2 * US, encoding=2.0, reading=4.0)), HERE, 3)
    assert "+0%" in capsys.readouterr().out


def test_a_ratio_that_got_better_passes_and_the_baseline_stays(known):
    assert not compare.run(always(rows(encoding=1.0, reading=4.0)), HERE, 3)
    assert stored() == pytest.approx({"g: encoding": 2.0, "g: reading": 4.0})


# -- what is stored -------------------------------------------------------------------------------


def test_a_machine_without_a_baseline_stores_one_says_so_and_passes(known, capsys, state):
    assert not compare.run(always(rows(encoding=9.0)), ELSEWHERE, 3)
    path = baseline.place(ELSEWHERE)
    assert f"baseline: {path}" in capsys.readouterr().out
    assert path.is_relative_to(state / "xdpcap" / "bench")
    assert json.loads(path.read_text())["machine"] == ELSEWHERE
    assert baseline.load(path).ratios == pytest.approx({"g: encoding": 9.0})
    assert stored() == pytest.approx({"g: encoding": 2.0, "g: reading": 4.0})


def test_an_update_stores_what_is_worse_and_forgets_what_is_gone(known):
    assert not compare.run(always(rows(encoding=3.0)), HERE, 3, update=True)
    assert stored() == pytest.approx({"g: encoding": 3.0})


def test_without_a_state_directory_the_baseline_is_below_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert baseline.place(HERE).parent == tmp_path / "home/.local/state/xdpcap/bench"


def test_a_machine_is_known_by_what_its_ratios_depend_on():
    machine = baseline.identity()
    assert set(machine) == {"cpu", "kernel", "libc", "compiler", "flags", "python"}
    assert all(machine[name] for name in ("cpu", "kernel", "compiler", "python"))
    assert baseline.place(machine) == baseline.place(dict(reversed(machine.items())))
    assert baseline.place(machine) != baseline.place(machine | {"kernel": "6.1"})


def test_a_baseline_that_can_not_be_read_is_named_with_the_way_out(known):
    path = baseline.place(HERE)
    for text in ("", "[]", '{"ratios": {}}'):
        path.write_text(text)
        with pytest.raises(XdpcapError, match=r"remove it, or use --update"):
            compare.run(always(rows(encoding=2.0)), HERE, 3)


# -- new and missing pieces -----------------------------------------------------------------------


def test_a_new_piece_is_told_and_stored_beside_what_was_there(known, capsys):
    run = always(rows(encoding=2.2, reading=4.0, planning=7.0))
    assert not compare.run(run, HERE, 3)
    assert any(
        "planning" in line and "new, stored" in line for line in capsys.readouterr().out.split("\n")
    )
    # What was known keeps its old ratio: small steps must not add up unseen.
    assert stored() == pytest.approx({"g: encoding": 2.0, "g: reading": 4.0, "g: planning": 7.0})


def test_a_piece_that_is_no_longer_measured_is_told_and_fails_nothing(known, capsys):
    assert not compare.run(always(rows(encoding=2.0)), HERE, 3)
    said = capsys.readouterr().out
    assert any("reading" in line and "no longer measured" in line for line in said.split("\n"))
    assert stored() == pytest.approx({"g: encoding": 2.0, "g: reading": 4.0})


# -- noise ----------------------------------------------------------------------------------------


class Machine:
    """Answers each measurement of all with the next of `runs`, each repetition with `again`."""

    def __init__(self, runs: list[list[Row]], again: list[Row]) -> None:
        self.runs, self.again = iter(runs), again
        self.repeated: list[set[str]] = []

    def __call__(self, nodes: Collection[str]) -> list[Row]:
        if not nodes:
            return next(self.runs)
        self.repeated.append(set(nodes))
        return [row for row in self.again if row.node in nodes]


def test_the_best_of_all_runs_counts_for_the_piece_and_for_its_memcpy():
    runs = [rows(US, encoding=3.0), rows(2 * US, encoding=1.0), rows(US, encoding=2.05)]
    found = parts.ratios(runs)["g: encoding"]
    assert found.value == pytest.approx(2.0)  # 2 us of the second run, 1 us of the first
    assert found.noise == pytest.approx(0.025)  # 2.05 us of the third, 1 us of the third


def test_one_run_agrees_with_nobody():
    assert parts.ratios([rows(encoding=2.0)])["g: encoding"].noise == float("inf")


def test_a_piece_that_looks_worse_is_measured_again_with_its_memcpy_and_may_recover(known):
    slow, quiet = rows(encoding=2.6, reading=4.0), rows(encoding=2.01, reading=4.0)
    elsewhere = [Row("h", LIMIT, US, "other"), Row("h", "sorting", US, "node")]
    machine = Machine([slow + elsewhere] * 3, quiet)
    assert not compare.run(machine, HERE, 3)
    assert machine.repeated == [{row.node for row in slow}] * 3


def test_a_piece_that_is_worse_each_time_fails(known):
    slow = rows(encoding=2.6, reading=4.0)
    machine = Machine([slow] * 3, slow)
    assert compare.run(machine, HERE, 3)
    assert len(machine.repeated) == 3


def test_a_piece_that_stays_noisy_is_called_so_and_fails_nothing(known, capsys):
    noisy = [rows(encoding=ratio, reading=4.0) for ratio in (2.5, 3.5, 4.5)]
    machine = Machine(noisy, rows(encoding=5.0, reading=4.0))
    assert not compare.run(machine, HERE, 3)
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if "encoding" in line]
    assert "too noisy (runs 40% apart)" in line
    assert len(machine.repeated) == 3


def test_a_noisy_piece_is_no_part_of_a_baseline(capsys):
    noisy = [rows(encoding=ratio, reading=4.0) for ratio in (2.5, 3.5, 4.5)]
    assert not compare.run(Machine(noisy, rows(encoding=5.0, reading=4.0)), HERE, 3)
    assert stored() == pytest.approx({"g: reading": 4.0})
    assert "g: encoding: not stored, its runs are 40% apart" in capsys.readouterr().out


def test_a_group_without_a_memcpy_can_not_be_related_to_anything():
    with pytest.raises(BenchmarkError, match="the limit of the ratios"):
        parts.ratios([rows(encoding=2.0)[1:]] * 2)


# -- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "arguments", "code"),
    [(2.5, [], 1), (2.3, [], 0), (2.5, ["--update"], 0), (2.0, ["--runs", "1"], 2)],
)
def test_the_exit_code_tells_worse_from_wrong_usage(known, monkeypatch, ratio, arguments, code):
    monkeypatch.setattr(parts, "measure", always(rows(encoding=ratio, reading=4.0)))
    monkeypatch.setattr(baseline, "identity", lambda: HERE)
    assert CliRunner().invoke(compare.main, arguments).exit_code == code


def test_pieces_that_can_not_be_measured_are_an_error_in_one_line(monkeypatch):
    def fails(nodes):
        raise BenchmarkError("the pieces can't be measured")

    monkeypatch.setattr(parts, "measure", fails)
    result = CliRunner().invoke(compare.main, [])
    assert result.exit_code == 1
    assert "compare: the pieces can't be measured\n" in result.output


# -- where nothing is measured --------------------------------------------------------------------


def test_the_tests_call_a_piece_once_and_measure_nothing(benchmark):
    calls: list[int] = []
    benchmark(calls.append, 1)
    assert calls == [1]
    assert benchmark.stats is None


def test_the_tests_call_a_piece_once_that_has_a_number_of_calls_of_its_own(benchmark):
    calls: list[int] = []
    benchmark.pedantic(calls.append, (1,), rounds=100, iterations=10)
    assert calls == [1]
    assert benchmark.stats is None


def test_what_pytest_benchmark_writes_is_read_as_groups_rows_and_their_fastest_calls(tmp_path):
    found = {
        **{"group": "g; us a call are ns a packet", "name": "encoding"},
        **{"fullname": "benchmarks/x.py::test", "stats": {"min": 2e-6, "median": 3e-6}},
    }
    path = tmp_path / "parts.json"
    path.write_text(json.dumps({"benchmarks": [found]}))
    assert parts.read(path) == [Row("g", "encoding", 2e-6, "benchmarks/x.py::test")]
