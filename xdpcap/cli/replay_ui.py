"""The terminal side of a replay.

On a terminal a bar shows how far it is, elsewhere a line an interval. The
session calls these methods from its main thread; none of them raises because
the terminal has gone.
"""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.text import Text

from xdpcap.cli.replay_view import (
    Goal,
    Pace,
    closing_view,
    difference_lines,
    dropped_lines,
    opening_lines,
    pace_between,
    progress_line,
    progress_view,
    skipped_lines,
)
from xdpcap.cli.terminal import SessionTerminal, survives
from xdpcap.options.replay import ReplayOptions
from xdpcap.options.units import format_duration
from xdpcap.replay.report import Progress
from xdpcap.replay.startup import ReplayStartupReport

NOTHING = Progress(sent=0, bytes=0, elapsed_s=0.0, late=0, queues=0)


class ReplayUi(SessionTerminal):
    """What a replay tells, shown as `options` wants it."""

    def __init__(self, options: ReplayOptions, console: Console | None = None) -> None:
        super().__init__(options, console)
        self._options = options
        self._goal = Goal()
        self._before = NOTHING

    @survives
    def startup(self, report: ReplayStartupReport) -> None:
        """Show what was granted; with --quiet only what will go wrong."""
        if self._options.quiet:
            for why, command in report.warnings:
                way_out = f"; {command}" if command else ""
                self.message(f"{report.interface}: {why}{way_out}")
            return
        for line in opening_lines(report, self._glyphs):
            self._print_line(line)

    def start(self, total_packets: int | None, total_seconds: float | None) -> None:
        """The replay runs from now on; None for what nobody can tell."""
        self._goal = self._goal_of(total_packets, total_seconds)
        self._start_live()
        if self._live is not None:
            self._draw(NOTHING, Pace())

    @survives
    def tick(self, progress: Progress) -> None:
        """Show how far it is; off a terminal at most once every --stats-interval."""
        if not self._due(progress.elapsed_s):
            return
        pace = pace_between(self._before, progress)
        self._before = progress
        if self._live is None:
            names = (self._options.interface, self._options.second_interface)
            interfaces = ", ".join(name for name in names if name is not None)
            self._print_line(Text(progress_line(interfaces, progress, pace, self._goal)))
        else:
            self._draw(progress, pace)

    def finish(self, report: dict[str, Any]) -> None:
        """The final report: for people on standard error, or with --json on standard output."""
        self._stop_live()
        if self._options.json:
            self._emit_json(report)
        elif self._options.quiet:
            self._complain(report)
        else:
            self._summarise(report)

    def _goal_of(self, packets: int | None, seconds: float | None) -> Goal:
        """What --limit and --duration leave of the whole."""
        limit, duration_s = self._options.limit, self._options.duration_s
        if limit is not None and (packets is None or limit < packets):
            # How long that takes, the recorded times do not tell.
            packets, seconds = limit, None
        if duration_s is not None and (seconds is None or duration_s < seconds):
            seconds = duration_s
        return Goal(packets, seconds)

    def _complain(self, report: dict[str, Any]) -> None:
        """Only what is not as it should be."""
        for line in skipped_lines(report):
            self.message(f"skipped {line}")
        for line in dropped_lines(report):
            self.message(line)
        for line in difference_lines(report):
            self.message(f"--verify {self._options.verify}: {line}")

    @survives
    def _summarise(self, report: dict[str, Any]) -> None:
        late = format_duration(self._options.late_s)
        for part in closing_view(report, self._glyphs, self._console.width, late):
            self._print_line(part)

    @survives
    def _draw(self, progress: Progress, pace: Pace) -> None:
        if self._live is None:
            return
        start_at_ns = self._options.start_at_ns
        waiting_s = 0.0
        if start_at_ns is not None and not progress.sent:
            waiting_s = (start_at_ns - time.time_ns()) / 1e9
        view = progress_view(progress, pace, self._goal, self._console.width, waiting_s)
        self._live.update(view, refresh=True)
