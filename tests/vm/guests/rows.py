"""What came of each kind of NIC in a guest, from pytest's report (--junitxml) of all of them.

A test of the suite says on which NICs it ran (`zero_copy/conftest.py` gives it a property); any
other is the lab's, which is on veth.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAB_NICS = "veth"
BAD = ("failed", "error")


@dataclass(frozen=True)
class Row:
    """A kernel with one kind of NIC: how many tests ended how, their time, the suite's facts."""

    kernel: str
    nics: str
    counts: Mapping[str, int]
    seconds: float
    facts: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Tests ran, and none failed."""
        return self.counts.get("passed", 0) > 0 and not any(self.counts.get(bad) for bad in BAD)

    @property
    def summary(self) -> str:
        """As pytest would close: "8 passed, 1 skipped"."""
        words = [f"{number} {word}" for word, number in sorted(self.counts.items()) if number]
        return ", ".join(words) or "no result"


def rows_of(
    kernel: str, kinds: Sequence[str], report: Path, facts: Mapping[str, Mapping[str, Any]]
) -> list[Row]:
    """A row for each kind; without a report, which a guest that died has not left, empty ones."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    seconds = dict.fromkeys(kinds, 0.0)
    other = LAB_NICS if LAB_NICS in counts else kinds[0]
    for case in ET.parse(report).iter("testcase") if report.exists() else ():
        named = case.find("properties/property[@name='nics']")
        kind = other if named is None else named.attrib["value"]
        counts[kind][_ending(case)] += 1
        seconds[kind] += float(case.attrib.get("time", 0))
    return [Row(kernel, kind, counts[kind], seconds[kind], facts.get(kind, {})) for kind in kinds]


def _ending(case: ET.Element) -> str:
    """In pytest's words; a test that failed and whose end failed, too, is there twice."""
    for element, word in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")):
        if case.find(element) is not None:
            return word
    return "passed"
