"""`xdpcap bench record`: where the recorder's time goes, and what holds it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import click

from xdpcap.cli.options import (
    BYTES,
    CONTEXT_SETTINGS,
    DURATION,
    FLAG,
    NUMBERS,
    SIZE,
    Quantity,
    SectionedCommand,
    section,
    takes,
)
from xdpcap.cli.streams import complain, emit
from xdpcap.options.bench_record import (
    IMIX,
    SIMULATIONS,
    BenchRecordOptions,
    format_sizes,
    parse_sizes,
)
from xdpcap.options.record import FORMATS
from xdpcap.options.units import format_grouped, format_scaled

EXAMPLES = """\b
Examples:
  xdpcap bench record -i eth1 -o captures/
  xdpcap bench record -i eth1 --simulate disk
  xdpcap bench record --simulate capture -o captures/ --sizes 64:7,594:4,1514:1
  xdpcap bench record --simulate capture -o captures/ --sizes 1514 --format pcap --json

`docs/bench-record.md` says what each stage is.
"""

MIX = Quantity("sizes", parse_sizes)
# The stages as people read them; those above the line keep the worker busy.
BUSY_ROWS = {"peek": "peek", "encode": "encode + copy", "submit": "submit", "kernel": "kernel"}
WAIT_ROWS = {"disk": "waiting for the disk", "idle": "waiting for packets"}

_section = partial(section, BenchRecordOptions)


@click.command(
    "record",
    cls=SectionedCommand,
    context_settings=CONTEXT_SETTINGS,
    short_help="Find out where the recorder's time goes, and what limits it.",
    epilog=EXAMPLES,
)
@_section(
    "What is real",
    (
        "simulate",
        ("--simulate",),
        "none; disk: nothing is written; capture: packets are made in memory.",
        takes(click.Choice(SIMULATIONS), "WHAT"),
    ),
    (
        "interface",
        ("-i", "--interface"),
        "Interface to record; with --simulate capture a name for the files only.",
        {**takes(str, "NAME"), "default": ""},
    ),
    (
        "output",
        ("-o", "--output"),
        "Directory to write files into.",
        {**takes(str, "DIR"), "default": ""},
    ),
    (
        "sizes",
        ("--sizes",),
        f"Bytes of simulated packets, with their weights; without it {format_sizes(IMIX)}.",
        takes(MIX, "MIX"),
    ),
    ("duration_s", ("--duration",), "How long.", takes(DURATION)),
)
@_section(
    "The recording",
    ("format", ("-F", "--format"), "pcapng or pcap.", takes(click.Choice(FORMATS), "FORMAT")),
    ("keep", ("--keep",), "Keep the files instead of removing them.", FLAG),
    ("queues", ("--queues",), "Receive queues, such as 0,2-3; all without it.", takes(NUMBERS)),
    ("cpus", ("--cpus",), "CPUs for the workers, one a queue, used in turn.", takes(NUMBERS)),
    ("umem_size_bytes", ("--umem-size",), "Memory for packets of each queue.", takes(SIZE)),
    (
        "frame_size",
        ("--frame-size",),
        "A frame of that memory, 2048 or 4096; without it as in `record`.",
        takes(BYTES),
    ),
    ("netns", ("--netns",), "Network namespace the interface is in.", takes(str, "NAME")),
    (
        "force",
        ("--force",),
        "Record even on the interface of the default route or of this SSH session.",
        FLAG,
    ),
    ("json", ("--json",), "Print the result as a JSON object.", FLAG),
)  # fmt: skip
def bench_record_command(**values: Any) -> None:
    """Record for some seconds and account for the time of each packet.

    The result names what limits: a stage of the worker's own work, the disk,
    or whoever sends. Files are removed afterwards.
    """
    options = BenchRecordOptions(**values)
    options.validate()
    # Imported here: --help and a usage error do not need the compiled modules.
    from xdpcap.bench.record import bench_record_session

    report = bench_record_session(options, complain)
    emit(json.dumps(report) + "\n" if options.json else "\n".join(view(report)) + "\n")
    for problem in dict.fromkeys(report["problems"]):
        complain(problem)
    raise SystemExit(1 if report["problems"] else 0)


def view(report: Mapping[str, Any]) -> list[str]:
    """The result as lines for people."""
    stages = report["stages"]
    ns = {name: stages[f"{name}_ns"] for name in (*BUSY_ROWS, *WAIT_ROWS)}
    whole = sum(ns.values())

    def row(title: str, value: float) -> str:
        share = value / whole if whole else 0.0
        return f"  {title:<22}{value:>12.1f}{share:>10.1%}"

    busy = sum(ns[name] for name in BUSY_ROWS)
    lines = [_headline(report), "", f"  {'':<22}{'ns/packet':>12}{'time':>10}"]
    lines += [row(title, ns[name]) for name, title in BUSY_ROWS.items()]
    lines += [row("all of the worker's", busy)]
    lines += [row(title, ns[name]) for name, title in WAIT_ROWS.items()]
    if stages["source_ns"]:
        lines.append(f"  {'making packets, extra':<22}{stages['source_ns']:>12.1f}")
    lines += ["", f"{report['why']}."]
    lines += [
        f"{format_grouped(file['packets'])} packets, {format_grouped(file['bytes'])} bytes: "
        f"{file['path']}"
        for file in report["files"]
    ]
    return lines


def _headline(report: Mapping[str, Any]) -> str:
    if report["simulate"] == "capture":
        source = f"packets from memory ({report['sizes']})"
    else:
        how = "zero-copy" if report["zero_copy"] else "copy"
        source = f"{report['interface']} ({report['attach_mode']}, {how})"
    if report["simulate"] == "disk":
        target = "nothing written"
    else:
        target = f"{format_scaled(report['file_mbps'] / 8 * 1e6, 'B/s')} into files"
    return (
        f"{source}: {report['seconds']:.1f} s, {format_grouped(report['packets'])} packets, "
        f"{format_scaled(report['pps'], 'pps')}, {format_scaled(report['mbps'] * 1e6, 'b/s')}, "
        f"{target}, {format_grouped(report['lost'])} lost"
    )
