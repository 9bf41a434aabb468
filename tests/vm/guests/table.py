"""The README's table of what was seen in guests, made from the results that are in the tree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guests.machine import ROOT
from guests.nics import NICS

README = ROOT / "README.md"
RESULTS = Path(__file__).parent.parent / "results.json"
BEGIN, END = "<!-- guests: begin (tests/vm/matrix --record) -->", "<!-- guests: end -->"

Results = Mapping[str, Mapping[str, Any]]


def markdown(results: Results) -> str:
    """A row for each guest: what its kernel and driver granted to record and to replay."""
    lines = [
        "| kernel | NIC | program | `record` | `replay` | several frames a packet | timestamps |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sorted(results, key=_order):
        facts = results[name]
        kernel, nics = name.split()
        cells = [
            kernel, NICS[nics].title, facts["attach"], _bold(facts["record"]),
            _bold(facts["replay"]), "yes" if facts["multi_buffer"] else "no", facts["clock"],
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_table(readme: str, results: Results) -> str:
    """The README with this table between its marks."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{markdown(results)}\n{END}{after}"


def _order(name: str) -> tuple[Any, ...]:
    kernel, nics = name.split()
    return *(-int(part) for part in kernel.split(".")), list(NICS).index(nics)


def _bold(mode: str) -> str:
    return f"**{mode}**" if mode == "zero-copy" else mode
