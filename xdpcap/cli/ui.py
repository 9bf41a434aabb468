"""The terminal side of a recording session.

Everything for people goes to standard error, so that standard output belongs
to packets (`-o -`) or to the report (`--json`) alone. On a terminal the
statistics are a live table, elsewhere a line an interval. The session calls
these methods from its main thread, and none of them raises because the
terminal has gone: a capture outlives the window it was started in.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

from rich.console import Console
from rich.live import Live
from rich.text import Text

from xdpcap.cli.closing import closing_view, loss_lines
from xdpcap.cli.glyphs import glyphs_for
from xdpcap.cli.live import LOSSES, Moment, live_view
from xdpcap.cli.opening import verdict_lines
from xdpcap.cli.rates import Key, RateMeter, key_of
from xdpcap.cli.streams import abandon, emit, printable
from xdpcap.config import RecordConfig
from xdpcap.stats import QueueAccount
from xdpcap.units import format_grouped, format_scaled
from xdpcap.verdict import Verdict

P = ParamSpec("P")

# Off a terminal rich would fold tables at 80 columns; files and journals take longer lines.
WIDTH_OFF_TERMINAL = 120


class StderrConsole(Console):
    """A console that reports a closed pipe as the error it is.

    rich's own answer is to point standard output at /dev/null and to exit,
    which would throw away the packets of `-o -`.
    """

    def on_broken_pipe(self) -> None:
        """Called while rich handles a BrokenPipeError: hand it on, `_survives` waits for it."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _survives(method: Callable[P, None]) -> Callable[P, None]:
    """A method that falls silent for good when standard error can't be written any more."""

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except OSError as error:
            # A slow reader of a non-blocking terminal misses one update; all else is final.
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                ui = args[0]
                assert isinstance(ui, TerminalUi)
                ui.silence()

    return guarded


class TerminalUi:
    """What a session tells, shown as `config` wants it. Owned by the main thread.

    `message` may be called from other threads. `close` must be called in the
    end, whatever happened: it gives the terminal back.
    """

    def __init__(self, config: RecordConfig, console: Console | None = None) -> None:
        self._config = config
        self._console = console or _stderr_console()
        self._glyphs = glyphs_for(self._console.encoding)
        self._live_wanted = (
            self._console.is_terminal and not self._console.is_dumb_terminal and not config.quiet
        )
        self._live: Live | None = None
        self._meter = RateMeter()
        self._losses: dict[tuple[Key, str], int] = {}
        self._last_line_s = 0.0
        self._log = _LogToMessages(self, logging.WARNING if config.quiet else logging.INFO)
        self._log_level_before = _LOGGER.level
        _LOGGER.addHandler(self._log)
        _LOGGER.setLevel(self._log.level)

    @_survives
    def verdict(self, verdict: Verdict) -> None:
        """Show what was granted; with --quiet only what will spoil the capture."""
        if self._config.quiet:
            for why, command in verdict.spoilers:
                self.message(f"{verdict.interface}: {why}; {command}")
            return
        for line in verdict_lines(verdict, self._glyphs):
            self._print_line(line)

    @_survives
    def start(self) -> None:
        """The recording runs from now on."""
        if not self._live_wanted:
            return
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
        )
        self._live.start()
        # rich hides the cursor, and a process that is killed can't bring it back.
        self._console.show_cursor(True)

    @_survives
    def tick(
        self,
        accounts: Sequence[QueueAccount],
        totals: QueueAccount,
        elapsed_s: float,
        disk_rate_bytes: float,
    ) -> None:
        """Show the ledger now; off a terminal at most once every --stats-interval."""
        if self._config.quiet:
            return
        # Ticks are never exactly on time: one that comes a little early still counts.
        due_s = self._last_line_s + 0.9 * self._config.stats_interval_s
        if self._live is None and elapsed_s < due_s:
            return
        self._last_line_s = elapsed_s
        rates = self._meter.measure(accounts, elapsed_s)
        moment = Moment(
            accounts, totals, rates, elapsed_s, disk_rate_bytes, self._growing(accounts)
        )
        if self._live is None:
            self._print_line(Text(statistics_line(moment)))
            return
        width, height = self._console.size
        self._live.update(live_view(moment, self._glyphs, width, height), refresh=True)

    @_survives
    def message(self, text: str) -> None:
        """One line of warning or information, above the live table if there is one."""
        self._print_line(Text(f"xdpcap: {printable(text)}"))

    def finish(self, report: dict[str, Any]) -> None:
        """The final report: for people on standard error, or with --json on standard output."""
        self._stop_live()
        if self._config.json:
            # ASCII, whatever the locale; one line unless somebody looks at it.
            indent = 2 if sys.stdout.isatty() else None
            emit(json.dumps(report, indent=indent) + "\n")
        elif self._config.quiet:
            for line in loss_lines(report["total"]):
                self.message(f"packets lost, {line}")
        else:
            self._summarise(report)

    def close(self) -> None:
        """Give the terminal back. Does nothing the second time."""
        if self._live is not None:
            # Ended without a report: the last figures are all there is, so they stay.
            self._live.transient = False
        self._stop_live()
        _LOGGER.removeHandler(self._log)
        _LOGGER.setLevel(self._log_level_before)

    def silence(self) -> None:
        """Standard error is gone: write nothing more, and let the recording go on."""
        self._console.quiet = True
        abandon(sys.stderr)

    @_survives
    def _summarise(self, report: dict[str, Any]) -> None:
        for part in closing_view(report, self._glyphs, self._console.width):
            self._console.print(part, soft_wrap=True)

    @_survives
    def _stop_live(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _print_line(self, line: Text) -> None:
        # Never folded: a path or a command in it is there to be copied.
        self._console.print(line, soft_wrap=True)

    def _growing(self, accounts: Sequence[QueueAccount]) -> frozenset[tuple[Key, str]]:
        """The counters of loss that went up since the last tick."""
        now = {
            (key_of(account), place): getattr(account, place)
            for account in accounts
            for place in LOSSES
        }
        before, self._losses = self._losses, now
        return frozenset(key for key, count in now.items() if count > before.get(key, 0))


class _LogToMessages(logging.Handler):
    """What the package logs (settings restored, retries) reads as messages of the session."""

    def __init__(self, ui: TerminalUi, level: int) -> None:
        super().__init__(level)
        self._ui = ui

    def emit(self, record: logging.LogRecord) -> None:
        """Show the record's text; level and logger mean nothing to a user."""
        self._ui.message(record.getMessage())


_LOGGER = logging.getLogger("xdpcap")


def statistics_line(moment: Moment) -> str:
    """``12.0s eth0: 1 234 567 packets, 123.4 kpps, 812.0 Mb/s, 0 lost``, interfaces by commas."""
    parts = []
    for interface in dict.fromkeys(account.interface for account in moment.accounts):
        accounts = [a for a in moment.accounts if a.interface == interface]
        packets = sum(account.received for account in accounts)
        packets_per_s = sum(moment.rates[key_of(a)].packets_per_s for a in accounts)
        bits_per_s = sum(moment.rates[key_of(a)].bits_per_s for a in accounts)
        parts.append(
            f"{interface}: {format_grouped(packets)} packets, "
            f"{format_scaled(packets_per_s, 'pps')}, {format_scaled(bits_per_s, 'b/s')}, "
            f"{format_grouped(sum(account.lost for account in accounts))} lost"
        )
    return f"{moment.elapsed_s:.1f}s {'; '.join(parts)}"


def _stderr_console() -> Console:
    on_terminal = sys.stderr.isatty()
    # A width that somebody set is kept. force_terminal as it is: FORCE_COLOR may ask for
    # colours in a pipe, but a table that moves the cursor there would be garbage.
    width = None if on_terminal or "COLUMNS" in os.environ else WIDTH_OFF_TERMINAL
    return StderrConsole(stderr=True, force_terminal=on_terminal, width=width, highlight=False)
