"""The samples of a scenario: rows, ratios, and conclusions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.fio import NAME as FIO
from benchmarks.machine import Activity
from benchmarks.measure import Sample, Scenario
from benchmarks.noise import Finding, Summary, compare, floor_of, summarize
from benchmarks.recorders import DROP_LOOP, OURS

Metric = Callable[[Sample], float]

# The metrics of the comparison: name, function, and whether less is better.
METRICS: dict[str, tuple[Metric, bool]] = {
    "packets/s": (lambda sample: sample.pps, False),
    "recorder CPU": (lambda sample: sample.cpu_ns, True),
    "machine CPU": (lambda sample: sample.machine_ns, True),
}


@dataclass(frozen=True)
class Row:
    """A summary of one recorder's samples; None where a metric does not apply."""

    name: str
    samples: tuple[Sample, ...]
    noisy: bool

    def of(self, metric: Metric) -> Summary:
        """The summary of a metric."""
        return summarize([metric(sample) for sample in self.samples])

    @property
    def to_reference(self) -> Summary:
        """Packets per second, relative to the drop loop in the same round."""
        return self.of(lambda sample: sample.pps / sample.reference_pps)


@dataclass
class Results:
    """All samples of one scenario, in the order of measurement."""

    scenario: Scenario
    noise_bound: float
    samples: list[Sample] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Row names in the order of their first sample."""
        return list(dict.fromkeys(sample.row for sample in self.samples))

    def row(self, name: str) -> Row:
        """The row of one recorder, which must have samples."""
        samples = tuple(sample for sample in self.samples if sample.row == name)
        return Row(name, samples, self._noisy(samples))

    @property
    def rows(self) -> Iterator[Row]:
        """All rows."""
        return (self.row(name) for name in self.names)

    def by_round(self, name: str, metric: Metric) -> dict[int, float]:
        """A metric of one recorder, by round."""
        return {s.round: metric(s) for s in self.samples if s.row == name}

    def floor(self, metric: Metric) -> float:
        """The noise floor: the difference of consecutive drop loops, in the metric's unit."""
        return floor_of([abs(metric(b) - metric(a)) for a, b in self._drop_pairs])

    @property
    def rate_floor(self) -> float:
        """The noise floor of packets per second, as a share."""
        return floor_of([abs(b.pps / a.pps - 1) for a, b in self._drop_pairs])

    @property
    def _drop_pairs(self) -> list[tuple[Sample, Sample]]:
        drops = [sample for sample in self.samples if sample.row == DROP_LOOP]
        return [(a, b) for a, b in pairwise(drops) if a.round == b.round]

    def ratios(self, ours: str, theirs: str, metric: Metric) -> list[float]:
        """A ratio for each round that has both."""
        mine, other = self.by_round(ours, metric), self.by_round(theirs, metric)
        return [mine[number] / other[number] for number in mine if other.get(number)]

    def finding(self, ours: str, theirs: str, name: str) -> tuple[list[float], Finding]:
        """The ratios of a metric of METRICS, and MORE where `ours` is better.

        The drop loop's CPU time per packet is short: its noise counts in nanoseconds, as a
        share of the compared value, and never as less than the rate's share.
        """
        metric, less_is_better = METRICS[name]
        ratios = self.ratios(ours, theirs, metric)
        floor = self.rate_floor
        if less_is_better and ratios:
            floor = max(floor, self.floor(metric) / self.row(theirs).of(metric).median)
        found = compare(ratios, floor)
        if less_is_better and found is not Finding.NOISE:
            found = Finding.LESS if found is Finding.MORE else Finding.MORE
        return ratios, found

    def shares_of_limit(self) -> list[float]:
        """Our bytes per second, relative to the lower of fio's and the drop loop's.

        The drop loop writes nothing: a recorder's bytes at its rate count.
        """
        limit = self.by_round(FIO, lambda sample: sample.file_rate)
        return [
            s.file_rate / min(limit[s.round], s.reference_pps * self.scenario.record_bytes)
            for s in self.samples
            if s.row == OURS and s.round in limit
        ]

    def _noisy(self, samples: tuple[Sample, ...]) -> bool:
        if samples and samples[0].row == FIO:
            metrics: list[Metric] = [lambda sample: sample.file_rate]
        elif samples and samples[0].row == DROP_LOOP:
            # Its CPU time is too short to be stable; its rate decides.
            metrics = [lambda sample: sample.pps]
        else:
            metrics = [
                lambda sample: sample.pps / sample.reference_pps,
                lambda sample: sample.cpu_ns,
            ]
        return any(
            summarize([metric(sample) for sample in samples]).spread > self.noise_bound
            for metric in metrics
        )

    def as_dict(self) -> dict[str, Any]:
        """The samples for the JSON report; `from_dict` reads them back."""
        scenario = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in vars(self.scenario).items()
        }
        return {
            "scenario": scenario,
            "noise_bound": self.noise_bound,
            "samples": [sample.as_dict() for sample in self.samples],
            "failures": self.failures,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Results:
        """Results from the output of `as_dict`."""
        scenario = dict(data["scenario"])
        for key in ("directory", "memory_directory"):
            scenario[key] = Path(scenario[key])
        return cls(
            Scenario(**scenario),
            data["noise_bound"],
            [_sample(sample) for sample in data["samples"]],
            data["failures"],
        )


def _sample(data: dict[str, Any]) -> Sample:
    activity = dict(data["machine"])
    activity["others"] = tuple((name, share) for name, share in activity["others"])
    return Sample(**{**data, "machine": Activity(**activity)})
