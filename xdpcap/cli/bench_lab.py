"""`xdpcap bench lab`: what this machine reaches without a NIC, beside its own limits."""

from __future__ import annotations

import json
import tempfile
from typing import Any

import click

from xdpcap.cli.options import (
    CONTEXT_SETTINGS,
    DURATION,
    FLAG,
    SectionedCommand,
    section,
    takes,
)
from xdpcap.cli.streams import emit
from xdpcap.errors import UsageError
from xdpcap.options.units import format_bytes

EXAMPLES = """\b
Examples:
  xdpcap bench lab
  xdpcap bench lab -o /data --duration 5s --json > here.json

Needs root and two CPUs, makes network namespaces and a veth pair of its own, and
leaves nothing. `docs/bench.md` says how to read the figures.
"""

NAME_WIDTH, VALUE_WIDTH = 44, 9


@click.command(
    "lab",
    cls=SectionedCommand,
    context_settings=CONTEXT_SETTINGS,
    short_help="Measure this machine in a network of its own; needs no NIC.",
    epilog=EXAMPLES,
)
@section(
    None,
    "Options",
    ("directory", ("-o", "--output"), "Directory on a disk; that of temporary files without it.",
        takes(str, "DIR")),
    ("duration_s", ("--duration",), "Time for each figure.", {**takes(DURATION), "default": 2.0}),
    ("as_json", ("--json",), "Print all as one JSON object.", FLAG),
)  # fmt: skip
def bench_lab_command(directory: str | None, duration_s: float, as_json: bool) -> None:
    """Measure rings, recorder and replay between two ends of a veth pair made for it.

    Each figure stands beside a limit measured on the same machine: copying
    bytes, bare loops over the rings, writing a file. A veth pair copies every
    packet; a NIC with zero-copy is faster.
    """
    # Imported here: --help and a usage error do not need the compiled modules.
    from xdpcap.bench.lab_run import LabBenchOptions, lab_bench_session, machine

    # Looked up only now: it is tried by writing, and a full disk must not keep --help away.
    options = LabBenchOptions(directory or _temporary(), duration_s)
    options.validate()
    if not as_json:
        emit("\n".join(_machine_lines(machine())) + "\n\n")
    found = lab_bench_session(options, lambda figure: None if as_json else emit(_line(figure)))
    if as_json:
        emit(json.dumps(found) + "\n")


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        raise UsageError("no directory for temporary files can be written to; use -o") from None


def _machine_lines(about: dict[str, Any]) -> list[str]:
    memory = format_bytes(about["memory_bytes"])
    return [
        f"{about['cpu']}, {about['cpus']} CPUs, {memory}",
        f"Linux {about['kernel']}, {about['driver']}: {about['mode']}",
    ]


def _line(figure: Any) -> str:
    value = f"{figure.value:.0f}" if figure.value >= 100 else f"{figure.value:.3g}"
    text = f"{figure.name:<{NAME_WIDTH}}{value:>{VALUE_WIDTH}} {figure.unit:<4}"
    if figure.ratio is not None:
        text += f"  {figure.ratio:5.0%} of {figure.limit}"
    if figure.note:
        text += f"  ({figure.note})"
    return text.rstrip() + "\n"
