"""What a handful of samples can say, and what they can't.

Spread is the median absolute deviation, scaled to a standard deviation of normal noise:
one disturbed sample among five does not move it.  The noise floor comes from the same
thing measured twice: pairs of drop loops of one round differ by nothing but chance.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

# Turns a median absolute deviation into a standard deviation, for normal noise.
MAD_SCALE = 1.4826
# Fewer rounds than this can't agree on anything.
ROUNDS_TO_AGREE = 3
# Of the differences between two equal things, the share that the floor covers.
FLOOR_SHARE = 0.95


class Finding(StrEnum):
    """What may be said of a ratio or of a goal."""

    MORE = "more"
    LESS = "less"
    NOISE = "inside the noise"


@dataclass(frozen=True)
class Summary:
    """Samples in five numbers; `spread` is relative to the median."""

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
    """What two measurements of the same thing differ by: the 95th percentile.

    Infinite, so that nothing can be told, when nothing was measured twice.
    """
    if not distances:
        return math.inf
    return sorted(distances)[math.ceil(FLOOR_SHARE * len(distances)) - 1]


def compare(ratios: Sequence[float], floor: float) -> Finding:
    """Whether ratios, one a round, lie above 1 or below.

    Only if every round says the same and their median is further from 1 than the floor.
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
    """On which side of a bound the values lie; NOISE when the rounds do not agree.

    A value on the bound itself counts as MORE.
    """
    if len(values) < ROUNDS_TO_AGREE:
        return Finding.NOISE
    if min(values) >= bound:
        return Finding.MORE
    if max(values) < bound:
        return Finding.LESS
    return Finding.NOISE
