"""Measure the pieces in several runs, each as a ratio to its group's memcpy().

A piece's result is its best time of all runs, divided by the best time of its group's memcpy():
other activity of the machine can only add to a time.  Each run is a process of its own, because
the placement of memory is fixed per process.  The difference between the best two runs is the
noise.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pieces import LIMIT, SEPARATOR
from benchmarks.recorders import BenchmarkError

ROOT = Path(__file__).resolve().parent.parent
PIECES = "benchmarks"
OPTIONS = (
    *("-q", "-p", "no:cacheprovider", "--benchmark-enable", "--benchmark-only"),
    # Many short runs find the best time faster than few long ones.
    *("--benchmark-disable-gc", "--benchmark-max-time=0.05"),
)
TAIL_LINES = 15


@dataclass(frozen=True)
class Row:
    """One row of one run; `seconds` is its fastest call, `node` its pytest node id."""

    group: str
    name: str
    seconds: float
    node: str = ""

    @property
    def piece(self) -> str:
        """Its name in a baseline."""
        return f"{self.group}: {self.name}"


@dataclass(frozen=True)
class Ratio:
    """A piece's best time in memcpy()s; `noise` is the excess of the second best runs."""

    group: str
    value: float
    noise: float


def measure(nodes: Collection[str] = ()) -> list[Row]:
    """One run of all pieces, or of those named.  Raises BenchmarkError when one fails."""
    with tempfile.TemporaryDirectory(prefix="xdpcap-bench-") as directory:
        path = Path(directory) / "parts.json"
        argv = [sys.executable, "-m", "pytest", *OPTIONS, f"--benchmark-json={path}"]
        out = subprocess.run(
            [*argv, *(sorted(nodes) or [PIECES])],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if out.returncode != 0:
            tail = "\n".join(out.stdout.splitlines()[-TAIL_LINES:]) or out.stderr
            raise BenchmarkError(f"the pieces can't be measured; pytest:\n{tail}")
        return read(path)


def read(path: Path) -> list[Row]:
    """The rows of a file that pytest-benchmark wrote."""
    return [
        Row(
            (found["group"] or "").partition(SEPARATOR)[0],
            found["name"],
            found["stats"]["min"],
            found["fullname"],
        )
        for found in json.loads(path.read_text())["benchmarks"]
    ]


def ratios(runs: Iterable[Iterable[Row]]) -> dict[str, Ratio]:
    """The ratio of every piece to the limit of its group.

    Raises BenchmarkError for a group without a limit.
    """
    times: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for row in run:
            times.setdefault((row.group, row.name), []).append(row.seconds)
    return {
        Row(group, name, 0).piece: _ratio(times, group, name)
        for group, name in times
        if name != LIMIT
    }


def _ratio(times: Mapping[tuple[str, str], list[float]], group: str, name: str) -> Ratio:
    if (group, LIMIT) not in times:
        raise BenchmarkError(f"{group}: no row is named {LIMIT!r}, the limit of the ratios")
    piece, limit = _best_two(times[group, name]), _best_two(times[group, LIMIT])
    noise = piece[1] / piece[0] * (limit[1] / limit[0]) - 1
    return Ratio(group, piece[0] / limit[0], noise)


def _best_two(seconds: list[float]) -> tuple[float, float]:
    """The best time and its noise, which is infinite for a single run."""
    best, *others = sorted(seconds)
    return best, others[0] if others else float("inf")
