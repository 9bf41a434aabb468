"""The samples of senders: rates and gap errors, by row and round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Generic, TypeVar

from benchmarks.machine import Activity
from benchmarks.noise import Summary, floor_of, summarize


@dataclass
class RateSample:
    """One sender at top speed: packets sent, and seconds.

    `reference_pps`: the mean of the bare loop's rates just before and after.
    """

    row: str
    round: int
    packets: int
    seconds: float
    machine: Activity
    reference_pps: float = 0.0

    @property
    def pps(self) -> float:
        """Packets per second."""
        return self.packets / self.seconds

    @property
    def machine_ns(self) -> float:
        """The whole machine's CPU time per packet."""
        return self.machine.busy_s * 1e9 / max(self.packets, 1)


@dataclass
class GapSample:
    """One paced sender: quantiles of the gap errors at the receiver, in ns."""

    row: str
    round: int
    p50_ns: float
    p99_ns: float
    p99_9_ns: float
    most_ns: float
    machine: Activity


S = TypeVar("S", RateSample, GapSample)


@dataclass
class Samples(Generic[S]):
    """All samples of one scenario; `load` is bytes per frame, or packets per second."""

    name: str
    load: int
    samples: list[S] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Row names in the order of their first sample."""
        return list(dict.fromkeys(sample.row for sample in self.samples))

    def of(self, row: str, metric: Callable[[S], float]) -> Summary:
        """The summary of a row's metric."""
        return summarize([metric(sample) for sample in self.samples if sample.row == row])

    def by_round(self, row: str, metric: Callable[[S], float]) -> dict[int, float]:
        """A row's metric by round."""
        return {s.round: metric(s) for s in self.samples if s.row == row}

    def ratios(
        self, ours: str, theirs: Sequence[str], metric: Callable[[S], float], best: Any = max
    ) -> list[float]:
        """Our value relative to the best of theirs, a ratio for each round that has both."""
        mine = self.by_round(ours, metric)
        others = [self.by_round(row, metric) for row in theirs]
        found = []
        for number, value in mine.items():
            rivals = [row[number] for row in others if number in row]
            if rivals:
                found.append(value / best(rivals))
        return found

    def floor(self, row: str, metric: Callable[[S], float]) -> float:
        """The noise floor: the difference of two samples of `row` in a round, as a share."""
        samples = [sample for sample in self.samples if sample.row == row]
        return floor_of(
            [abs(metric(b) / metric(a) - 1) for a, b in pairwise(samples) if a.round == b.round]
        )

    def as_dict(self) -> dict[str, Any]:
        """The samples for the JSON report; `from_dict` reads them back."""
        return {
            "name": self.name,
            "load": self.load,
            "samples": [asdict(sample) for sample in self.samples],
            "failures": self.failures,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], kind: type[S]) -> Samples[S]:
        """Samples from the output of `as_dict`."""
        samples = []
        for sample in data["samples"]:
            activity = dict(sample["machine"])
            activity["others"] = tuple((name, share) for name, share in activity["others"])
            samples.append(kind(**{**sample, "machine": Activity(**activity)}))
        return cls(data["name"], data["load"], samples, data["failures"])
