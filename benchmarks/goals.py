"""The recorder's goals, compared with the measurements."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.noise import Finding, against
from benchmarks.recorders import DROP_LOOP, OURS
from benchmarks.results import METRICS, Results

SMALL = 60
SHARE_OF_DROP_LOOP = 0.95
SHARE_OF_LIMIT = 0.90
CPU_NS = 70.0

REACHED, MISSED, UNDECIDED = "reached", "missed", "inside the noise"


@dataclass(frozen=True)
class Goal:
    """One goal: the requirement, the measured value, and whether it is met."""

    scenario: str
    asked: str
    measured: str
    outcome: str


def goals(results: Sequence[Results]) -> Iterator[Goal]:
    """All goals that the measured scenarios can decide."""
    for result in results:
        if OURS in result.names:
            yield from _of_scenario(result)


def _of_scenario(result: Results) -> Iterator[Goal]:
    name, ours = result.scenario.name, result.row(OURS)
    if result.scenario.size == SMALL:
        lost = [sample.lost for sample in ours.samples]
        outcome = MISSED if min(lost) else REACHED if not max(lost) else UNDECIDED
        yield Goal(name, "no packet lost", f"{_range(lost, ',.0f')} lost", outcome)
        used = [sample.cpu_ns for sample in ours.samples]
        yield bounded(name, f"CPU under {CPU_NS:.0f} ns a packet", used, CPU_NS, less=True)
        share = [sample.pps / sample.reference_pps for sample in ours.samples]
        asked = f"{SHARE_OF_DROP_LOOP:.0%} of the drop loop's packets/s"
        yield bounded(name, asked, share, SHARE_OF_DROP_LOOP)
    else:
        # The file system's own limit counts: no recorder can exceed it.
        share = result.shares_of_limit()
        if share:
            asked = f"{SHARE_OF_LIMIT:.0%} of fio's or the drop loop's bytes/s, the lower"
            yield bounded(name, asked, share, SHARE_OF_LIMIT)
    yield from _against_peers(result)


def _against_peers(result: Results) -> Iterator[Goal]:
    """A goal for each metric: the closest peer's figure is shown, the worst result decides."""
    peers = peer_names(result)
    for metric, (_, less_is_better) in METRICS.items():
        found = {peer: result.finding(OURS, peer, metric) for peer in peers}
        medians = {peer: statistics.median(ratios) for peer, (ratios, _) in found.items() if ratios}
        if not medians:
            continue
        closest = (max if less_is_better else min)(medians, key=lambda peer: medians[peer])
        findings = {finding for _, finding in found.values()}
        outcome = (
            MISSED
            if Finding.LESS in findings
            else UNDECIDED
            if Finding.NOISE in findings
            else REACHED
        )
        measured = f"{_range(found[closest][0], '.2f')} times {closest}"
        yield Goal(result.scenario.name, f"ahead of every peer in {metric}", measured, outcome)


def peer_names(result: Results) -> list[str]:
    """The rows of other recorders."""
    samples = {sample.row for sample in result.samples if sample.sent}
    return [
        name
        for name in result.names
        if name in samples and name != DROP_LOOP and not name.startswith("xdpcap")
    ]


def bounded(
    scenario: str,
    asked: str,
    values: Sequence[float],
    bound: float,
    *,
    less: bool = False,
    form: str = "",
) -> Goal:
    """A goal that is met at or above `bound`, with `less` below it; shares are in percent."""
    found = against(values, bound)
    reached, missed = (Finding.LESS, Finding.MORE) if less else (Finding.MORE, Finding.LESS)
    outcome = REACHED if found is reached else MISSED if found is missed else UNDECIDED
    form = form or (".1%" if bound <= 1 else ".1f")
    return Goal(scenario, asked, _range(values, form), outcome)


def _range(values: Sequence[float], form: str) -> str:
    median = statistics.median(values)
    return f"{median:{form}} ({min(values):{form}} to {max(values):{form}})"
