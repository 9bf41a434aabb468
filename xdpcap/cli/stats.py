"""`xdpcap stats`: what running recordings' programs count, read from another process."""

from __future__ import annotations

import io
import json
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.live import Live

from xdpcap.cli.glyphs import Glyphs, glyphs_for
from xdpcap.cli.interfaces import WIDTH_OFF_TERMINAL
from xdpcap.cli.options import CONTEXT_SETTINGS, DURATION
from xdpcap.cli.stats_view import Reading, reading_of, stats_view
from xdpcap.cli.streams import emit
from xdpcap.errors import UsageError, XdpcapError

if TYPE_CHECKING:
    from xdpcap.programs.pinned_counters import PinnedRecording

MIN_WATCH_S = 0.1


@click.command(
    "stats",
    context_settings=CONTEXT_SETTINGS,
    short_help="Show what running recordings count.",
)
@click.option(
    "-i",
    "--interface",
    "interfaces",
    multiple=True,
    metavar="NAME",
    help="Interface that is recorded; may be given more than once. All of them without it.",
)
@click.option("--netns", metavar="NAME", help="Look into this network namespace.")
@click.option(
    "--watch",
    "watch_s",
    type=DURATION,
    is_flag=False,
    flag_value=1.0,
    metavar="[TIME]",
    help="Go on, every second or so often, with rates, until the recordings end.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch a line each time.")
def stats_command(
    interfaces: tuple[str, ...], netns: str | None, watch_s: float | None, as_json: bool
) -> None:
    """Show for every queue what the XDP programs of running recordings did with its packets.

    Counts are those of the program: packets and bytes by verdict, since the recording began.
    """
    from xdpcap.net.netns import enter

    if watch_s is not None and watch_s < MIN_WATCH_S:
        raise UsageError(f"--watch {watch_s:g}: must be at least 100ms; leave the time out for 1s")
    if netns is not None:
        enter(netns)
    readings = _read(interfaces)
    if not readings:
        wanted = f" on {', '.join(interfaces)}" if interfaces else ""
        raise XdpcapError(f"no recorder{wanted}; `xdpcap record` starts one")
    if watch_s is None:
        emit(_printed(readings, as_json))
        return
    # Ctrl-C ends it as it should: nothing went wrong.
    signal.signal(signal.SIGINT, lambda number, frame: sys.exit(0))
    if sys.stdout.isatty() and not as_json:
        _watch_live(interfaces, watch_s, readings)
    else:
        _watch_lines(interfaces, watch_s, readings, as_json)


def _read(interfaces: Sequence[str]) -> list[Reading]:
    """The counters of every recording that is asked for, and goes on."""
    from xdpcap.programs import pinned_counters

    found = []
    for shown in pinned_counters.find():
        if not interfaces or shown.owner.interface in interfaces:
            reading = _read_one(shown)
            if reading is not None:
                found.append(reading)
    missing = set(interfaces) - {reading.interface for reading in found}
    if found and missing:
        raise XdpcapError(
            f"no recorder on {', '.join(sorted(missing))}; there is one on "
            f"{', '.join(reading.interface for reading in found)}"
        )
    return found


def _read_one(shown: PinnedRecording) -> Reading | None:
    try:
        return reading_of(shown.owner, shown.verdicts(), time.time())
    except XdpcapError:
        if shown.directory.exists():
            raise
        return None  # it has ended since


def _printed(readings: Sequence[Reading], as_json: bool) -> str:
    if as_json:
        indent = 2 if sys.stdout.isatty() else None
        return json.dumps([reading.as_json() for reading in readings], indent=indent) + "\n"
    on_terminal = sys.stdout.isatty()
    # Rendered into memory first, so that one place meets a standard output that is full or closed.
    console = Console(
        file=io.StringIO(),
        force_terminal=on_terminal,
        width=None if on_terminal else WIDTH_OFF_TERMINAL,
    )
    with console.capture() as captured:
        console.print(stats_view(readings, _glyphs(), console.width))
    return captured.get()


def _glyphs() -> Glyphs:
    return glyphs_for(sys.stdout.encoding)


def _next(
    interfaces: Sequence[str], watch_s: float, before: Sequence[Reading]
) -> list[Reading] | None:
    """The readings after a pause, with what they were before; None once all have ended."""
    time.sleep(watch_s)
    try:
        readings = _read(interfaces)
    except XdpcapError:
        # One of those that were named has ended; the others are watched on.
        readings = [r for r in _read(()) if r.interface in interfaces]
    for reading in readings:
        reading.since(before)
    return readings or None


def _watch_lines(
    interfaces: Sequence[str], watch_s: float, first: list[Reading], as_json: bool
) -> None:
    readings: list[Reading] | None = first
    while readings:
        emit(_printed(readings, as_json))
        readings = _next(interfaces, watch_s, readings)


def _watch_live(interfaces: Sequence[str], watch_s: float, first: list[Reading]) -> None:
    console = Console()
    options: dict[str, Any] = {"auto_refresh": False, "redirect_stdout": False}
    readings: list[Reading] | None = first
    # The last table stays: what the recordings had counted when they ended.
    with Live(console=console, **options) as live:
        while readings:
            live.update(stats_view(readings, _glyphs(), console.width), refresh=True)
            readings = _next(interfaces, watch_s, readings)
