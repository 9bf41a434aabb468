"""`xdpcap bench`: how fast rings, recorder and disk are here, and what holds them back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from xdpcap.cli.bench_lab import bench_lab_command
from xdpcap.cli.bench_record import bench_record_command
from xdpcap.cli.options import (
    BYTES,
    CONTEXT_SETTINGS,
    DURATION,
    FLAG,
    NUMBERS,
    SectionedCommand,
    section,
    takes,
)
from xdpcap.cli.streams import emit
from xdpcap.errors import UsageError, XdpcapError
from xdpcap.options.bench_rings import WAITS, RingBenchOptions
from xdpcap.options.checks import ATTACH_MODES, ZERO_COPY_MODES
from xdpcap.options.sweep import Dimension, as_csv, combinations, parse_sweep
from xdpcap.options.units import parse_size

EXAMPLES = """\b
Examples:
  xdpcap bench rx-drop -i eth1
  xdpcap bench tx-only -i eth1 --packet-size 1514 --queues 0-1
  xdpcap bench rx-drop -i eth1 --sweep batch=16,64,256 frame-size=2048,4096 --plot sweep.svg

`docs/bench.md` says how to read the figures.
"""

SHORT = {
    "rx-drop": "Take packets off an interface and drop them.",
    "tx-only": "Send one frame out of an interface over and over.",
    "l2fwd": "Send packets back out of the interface that they came from.",
}
LONG = {
    "rx-drop": "Take packets off an interface and drop them: what a recorder there can reach at "
    "most. They do not reach this host's network stack meanwhile.",
    "tx-only": "Send one frame out of an interface over and over: what a replay there can reach "
    "at most.",
    "l2fwd": "Take packets off an interface and send them back out of it with source and "
    "destination MAC address swapped.",
}


def _on_or_off(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError(f"{text!r}: choose on or off")
    return text == "on"


# What --sweep can vary.
SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "batch": ("batch", int),
    "ring-size": ("ring_size", int),
    "frame-size": ("frame_size", parse_size),
    "packet-size": ("packet_size", parse_size),
    "busy-poll": ("busy_poll", _on_or_off),
    "need-wakeup": ("need_wakeup", _on_or_off),
    "zero-copy": ("zero_copy", str),
    "wait": ("wait", str),
}

_section = partial(section, RingBenchOptions)


@click.group("bench", context_settings=CONTEXT_SETTINGS)
def bench_command() -> None:
    """Measure rings, recorder and disk: how fast they are, and what holds them back."""


def _sections(mode: str) -> Callable[[Any], Any]:
    """The options of one mode, those that mean something there."""
    load = (("packet_size", ("--packet-size",), "Bytes of the frame to send, without checksum.",
             takes(BYTES)),) if mode == "tx-only" else ()  # fmt: skip
    polls = (
        ("wait", ("--wait",), "Between looks: pauses, as the recorder makes, or poll().",
         takes(click.Choice(WAITS))),
        ("busy_poll", ("--busy-poll",), "Drive the driver's polling instead of sleeping.", FLAG),
    ) if mode != "tx-only" else ()  # fmt: skip
    attach = ATTACH_MODES[:3] if mode != "tx-only" else (*ATTACH_MODES[:3], "none")
    steps = (
        _section(
            "Where",
            ("interface", ("-i", "--interface"), "Interface to measure.",
             {**takes(str, "NAME"), "default": ""}),
            ("netns", ("--netns",), "Network namespace the interface is in.", takes(str, "NAME")),
            ("queues", ("--queues",), "Queues, such as 0,2-3; all of them without it.",
             takes(NUMBERS)),
            ("cpus", ("--cpus",), "CPUs for the loops, one a queue in this order.",
             takes(NUMBERS)),
            ("attach", ("--attach",), "How to attach the XDP program.",
             takes(click.Choice(attach))),
            ("zero_copy", ("--zero-copy",), "Whether the device shares the memory of the rings.",
             takes(click.Choice(ZERO_COPY_MODES))),
            ("force", ("--force",), "Also on the interface of the default route or SSH.", FLAG),
        ),
        _section(
            "Rings of each queue",
            ("frame_size", ("--frame-size",), "Bytes a frame; without it as in `record`.",
             takes(BYTES)),
            ("ring_size", ("--ring-size",), "Descriptors of each ring, and frames.",
             takes(int, "NUMBER")),
            ("batch", ("--batch",), "Descriptors handled at a time, at most.",
             takes(int, "NUMBER")),
            *polls,
            ("need_wakeup", ("--need-wakeup/--no-need-wakeup",),
             "Let the kernel say when it has to be woken (Linux 5.4).", {}),
        ),
        _section(
            "Load and reports",
            *load,
            ("duration_s", ("--duration",), "How long; of each combination with --sweep.",
             takes(DURATION)),
            ("interval_s", ("--stats-interval",), "Time between lines.", takes(DURATION)),
            ("quiet", ("-q", "--quiet"), "The result alone.", FLAG),
            ("json", ("--json",), "Print the result as one JSON object.", FLAG),
        ),
        section(
            None,
            "Combinations",
            ("sweep", ("--sweep",), "Settings to vary, such as batch=16,64 ring-size=512,2048.",
             {**takes(str, "NAME=LIST"), "multiple": True, "default": ()}),
            ("csv", ("--csv",), f"File for the sweep; xdpcap-{mode}.csv without it.",
             {**takes(str, "FILE"), "default": f"xdpcap-{mode}.csv"}),
            ("plot", ("--plot",), "Picture of the sweep: a name that ends in .svg, .png or .pdf.",
             takes(str, "FILE")),
        ),
    )  # fmt: skip

    def decorate(function: Any) -> Any:
        for step in reversed(steps):
            function = step(function)
        return function

    return decorate


def _command(mode: str) -> click.Command:
    @click.command(
        mode,
        cls=SectionedCommand,
        context_settings=CONTEXT_SETTINGS,
        short_help=SHORT[mode],
        help=LONG[mode],
        epilog=EXAMPLES,
    )
    @click.argument("more", nargs=-1, metavar="")
    @_sections(mode)
    def command(
        more: tuple[str, ...], sweep: tuple[str, ...], csv: str, plot: str | None, **values: Any
    ) -> None:
        options = RingBenchOptions(mode=mode, **values)
        # The shell makes words of `--sweep batch=16,64 frame-size=2048,4096`.
        if more and not sweep:
            raise UsageError(f"{more[0]}: no such argument; settings to vary follow --sweep")
        if sweep:
            _sweep(options, parse_sweep([*sweep, *more], SETTINGS), csv, plot)
        else:
            if plot is not None:
                raise UsageError("--plot: there is one result only; add --sweep")
            _measure(options)

    return command


for _mode in SHORT:
    bench_command.add_command(_command(_mode))
bench_command.add_command(bench_record_command)
bench_command.add_command(bench_lab_command)


def _ui(options: RingBenchOptions) -> Any:
    from xdpcap.cli.ring_bench_view import RingBenchUi

    return RingBenchUi(Console(stderr=True), quiet=options.quiet)


def _measure(options: RingBenchOptions) -> None:
    # Imported here: --help and a usage error do not need the compiled modules.
    from xdpcap.bench.rings import ring_bench_session
    from xdpcap.cli.ring_bench_view import opening, result_console, result_table, summary_line

    report = ring_bench_session(options, _ui(options))
    if options.json:
        emit(json.dumps(report) + "\n")
        return
    console = result_console()
    if options.quiet:
        console.print(opening(report), highlight=False, markup=False, soft_wrap=True)
    console.print(result_table(report))
    console.print(summary_line(report), highlight=False, markup=False)


def _sweep(
    options: RingBenchOptions, dimensions: list[Dimension], csv: str, plot: str | None
) -> None:
    from xdpcap.bench.rings import ring_bench_session
    from xdpcap.cli.ring_bench_view import result_console, sweep_table

    runs = [(words, replace(options, **fields)) for words, fields in combinations(dimensions)]
    # All of them are looked at before the first one takes its time.
    for _, one in runs:
        one.validate()
    if plot is not None:
        from xdpcap.bench.sweep_plot import check_plot

        check_plot(plot)
    if not Path(csv).parent.is_dir():
        raise UsageError(f"--csv {csv}: there is no such directory; make it first")
    ui = _ui(options)
    rows: list[tuple[tuple[str, ...], dict[str, Any]]] = []
    for words, one in runs:
        report = ring_bench_session(one, ui)
        rows.append((words, report))
        if report["seconds"] < 0.9 * one.duration_s:
            break  # a signal: what has been measured is shown
    try:
        Path(csv).write_text(as_csv(dimensions, rows))
    except OSError as exc:
        raise XdpcapError(f"--csv {csv}: {exc.strerror}") from None
    if plot is not None:
        from xdpcap.bench.sweep_plot import plot as draw

        draw(plot, f"{options.mode} on {options.interface}", dimensions, rows)
    if options.json:
        names = [dimension.name for dimension in dimensions]
        found = [{"sweep": dict(zip(names, words, strict=True)), **row} for words, row in rows]
        emit(json.dumps(found) + "\n")
    else:
        result_console().print(sweep_table(dimensions, rows))
    if not options.quiet:
        click.echo(f"written to {csv}" + (f" and {plot}" if plot else ""), err=True)
