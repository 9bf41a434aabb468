"""A measurement repeated over combinations of settings: read them, write what was found.

`batch=16,64 frame-size=2048,4096` are four combinations, the last setting changing first.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from xdpcap.errors import UsageError
from xdpcap.options.units import UnitError

Value = Any
# A setting's name as an option, the field it fills, and how its values are read.
Setting = tuple[str, Callable[[str], Value]]
COLUMNS = (
    *("pps", "mbps", "cpu", "cpu_ns_per_packet", "machine_cpu", "descriptors_per_syscall"),
    *("ring_mean", "ring_most", "rx_dropped", "rx_ring_full", "zero_copy", "seconds"),
)


@dataclass(frozen=True)
class Dimension:
    """One setting and its values, as words and as what they stand for."""

    name: str
    field: str
    words: tuple[str, ...]
    values: tuple[Value, ...]


def parse_sweep(words: Sequence[str], settings: Mapping[str, Setting]) -> list[Dimension]:
    """Dimensions from words such as "batch=16,64".  Raises UsageError for others."""
    dimensions: list[Dimension] = []
    for word in " ".join(words).split():
        name, equals, text = word.partition("=")
        if not equals or not text:
            raise UsageError(f"--sweep {word}: write NAME=VALUE,VALUE, such as batch=16,64")
        if name not in settings:
            known = ", ".join(sorted(settings))
            raise UsageError(f"--sweep {name}: can't be swept; choose among {known}")
        if any(dimension.name == name for dimension in dimensions):
            raise UsageError(f"--sweep {name}: is given twice; list all its values once")
        field, parse = settings[name]
        parts = tuple(text.split(","))
        try:
            values = tuple(parse(part) for part in parts)
        except (UnitError, ValueError) as exc:
            raise UsageError(f"--sweep {name}: {exc}") from None
        dimensions.append(Dimension(name, field, parts, values))
    return dimensions


def combinations(
    dimensions: Sequence[Dimension],
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """(the words of one combination, the fields that it sets), one after the other."""
    for indices in product(*(range(len(dimension.values)) for dimension in dimensions)):
        chosen = list(zip(dimensions, indices, strict=True))
        words = tuple(dimension.words[index] for dimension, index in chosen)
        yield words, {dimension.field: dimension.values[index] for dimension, index in chosen}


def as_csv(
    dimensions: Sequence[Dimension], rows: Sequence[tuple[tuple[str, ...], Mapping[str, Any]]]
) -> str:
    """A line for each combination: its settings, then what was measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*(dimension.name for dimension in dimensions), *COLUMNS])
    for words, report in rows:
        writer.writerow([*words, *(report.get(column) for column in COLUMNS)])
    return out.getvalue()
