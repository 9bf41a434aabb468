"""The order of measurements in a round: drop loop, row, drop loop, row, ..., drop loop.

Slow changes of the machine then affect a row and its reference alike.  A row whose spread is
above the bound is measured in more rounds, together with the recorder itself, so that the two
can still be compared round by round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.fio import NAME as FIO
from benchmarks.fio import measure_fio
from benchmarks.measure import Cpus, Sample, Scenario, Task, measure
from benchmarks.noise import ROUNDS_TO_AGREE
from benchmarks.recorders import DROP_LOOP, OURS, BenchmarkError, Recorder, drop_loop
from benchmarks.results import Results

Measure = Callable[[Task], Sample]
Log = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """The number of rounds of all rows; noisy rows get at most as many again."""

    cpus: Cpus
    rounds: int
    noise_bound: float


def measures(recorders: Sequence[Recorder], *, fio: bool) -> dict[str, Measure]:
    """The function that measures each row of a scenario, by name."""
    rows: dict[str, Measure] = {r.name: partial(measure, r) for r in recorders}
    if fio:
        rows[FIO] = measure_fio
    return rows


class Runner:
    """Measures one scenario; `results` is consistent after each sample.

    A row that fails is skipped from then on; `results.failures` has the reason.
    """

    def __init__(self, scenario: Scenario, rows: dict[str, Measure], plan: Plan, log: Log):
        self.results = Results(scenario, plan.noise_bound)
        self._scenario = scenario
        self._rows = dict(rows)
        self._plan = plan
        self._log = log

    def run(self) -> Results:
        """Run all rounds.

        Raises BenchmarkError when the drop loop fails: without it there is no reference.
        """
        rounds = self._plan.rounds
        for number in range(1, rounds + 1):
            self._round(number, list(self._rows))
        for number in range(rounds + 1, 2 * rounds + 1):
            noisy = {row.name for row in self.results.rows if row.noisy}
            if not noisy or rounds < ROUNDS_TO_AGREE:
                break
            self._say(f"once more because of {', '.join(sorted(noisy))}")
            self._round(number, [name for name in self._rows if name in noisy | {OURS}])
        return self.results

    def _round(self, number: int, names: Sequence[str]) -> None:
        task = Task(self._scenario, self._plan.cpus, number)
        reference = partial(measure, drop_loop())
        before = self._one(DROP_LOOP, reference, task)
        for name in names:
            try:
                sample = self._one(name, self._rows[name], task)
            except BenchmarkError as exc:
                self.results.failures[name] = str(exc)
                self._say(f"{name} is left out: {exc}")
                del self._rows[name]
                continue
            after = self._one(DROP_LOOP, reference, task)
            sample.reference_pps = (before.pps + after.pps) / 2
            before = after

    def _one(self, name: str, how: Measure, task: Task) -> Sample:
        sample = how(task)
        sample.reference_pps = sample.pps  # a row's reference is known after the next drop loop
        self.results.samples.append(sample)
        self._say(f"round {task.round}: {name}: {_line(sample)}")
        return sample

    def _say(self, text: str) -> None:
        self._log(f"{self._scenario.name}: {text}")


def _line(sample: Sample) -> str:
    parts = []
    if sample.sent:
        parts += [
            f"{sample.pps / 1e6:.3f} of {sample.sent / sample.send_s / 1e6:.3f} Mpps",
            f"{sample.lost} lost",
            f"CPU {sample.cpu_ns:.1f} ns, machine {sample.machine_ns:.0f} ns a packet",
        ]
    if sample.file_bytes:
        parts.append(f"{sample.file_rate / 1e6:.0f} MB/s")
    busy = ", ".join(f"{name} {share:.0%}" for name, share in sample.machine.others)
    if busy:
        parts.append(f"meanwhile {busy}")
    return "; ".join(parts)
