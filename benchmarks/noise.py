"""Statistics of a few samples: spread, noise floor, comparisons.

Spread is the median absolute deviation, scaled to a standard deviation of normal noise: one
disturbed sample of five does not change it.  The noise floor comes from measuring the same
thing twice: two drop loops of a round differ only by chance.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

# The factor from median absolute deviation to standard deviation, for normal noise.
MAD_SCALE = 1.4826
# The least number of rounds for a conclusion.
ROUNDS_TO_AGREE = 3
# The share of differences between equal measurements that the floor covers.
FLOOR_SHARE = 0.95


class Finding(StrEnum):
    """The conclusion about a ratio or a goal."""

    MORE = "more"
    LESS = "less"
    NOISE = "inside the noise"


@dataclass(frozen=True)
class Summary:
    """A summary of samples in five numbers; `spread` is relative to the median."""

    median: float
    low: float
    high: float
    spread: float
    count: int


def summarize(values: Sequence[float]) -> Summary:
    """Median, range and spread of at least one value."""
    median = statistics.median(values)
    mad = statistics.median(abs(value - median) for value in values)
    spread = MAD_SCALE * mad / abs(median) if median else 0.0
    return Summary(median, min(values), max(values), spread, len(values))


def floor_of(distances: Sequence[float]) -> float:
    """The 95th percentile of the differences between equal measurements.

    Infinite, so that nothing can be concluded, when nothing was measured twice.
    """
    if not distances:
        return math.inf
    return sorted(distances)[math.ceil(FLOOR_SHARE * len(distances)) - 1]


def compare(ratios: Sequence[float], floor: float) -> Finding:
    """Whether ratios, one per round, are above or below 1.

    NOISE unless all rounds agree and their median is further from 1 than the floor.
    """
    if len(ratios) < ROUNDS_TO_AGREE:
        return Finding.NOISE
    median = statistics.median(ratios)
    if min(ratios) > 1 and median > 1 + floor:
        return Finding.MORE
    if max(ratios) < 1 and median < 1 - floor:
        return Finding.LESS
    return Finding.NOISE


def against(values: Sequence[float], bound: float) -> Finding:
    """Whether the values are above or below a bound; NOISE when the rounds do not agree.

    A value equal to the bound counts as MORE.
    """
    if len(values) < ROUNDS_TO_AGREE:
        return Finding.NOISE
    if min(values) >= bound:
        return Finding.MORE
    if max(values) < bound:
        return Finding.LESS
    return Finding.NOISE
