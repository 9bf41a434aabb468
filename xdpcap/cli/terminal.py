"""What the terminal sides of all sessions share: one console, messages, and surviving its loss.

Everything for people goes to standard error, so that standard output belongs
to packets or to the report (`--json`) alone. No method raises because the
terminal has gone: a session outlives the window it was started in.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, ParamSpec, Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from xdpcap.cli.glyphs import glyphs_for
from xdpcap.cli.streams import abandon, emit, printable

P = ParamSpec("P")

# Off a terminal rich would fold tables at 80 columns; files and journals take longer lines.
WIDTH_OFF_TERMINAL = 120


class ReportOptions(Protocol):
    """The part of the options that says how much is shown."""

    @property
    def quiet(self) -> bool: ...
    @property
    def json(self) -> bool: ...
    @property
    def stats_interval_s(self) -> float: ...


class StderrConsole(Console):
    """A console that reports a closed pipe as the error it is.

    rich's own answer is to point standard output at /dev/null and to exit,
    which would throw away the packets of `-o -`.
    """

    def on_broken_pipe(self) -> None:
        """Called while rich handles a BrokenPipeError: hand it on, `survives` waits for it."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def survives(method: Callable[P, None]) -> Callable[P, None]:
    """A method that falls silent for good when standard error can't be written any more."""

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except OSError as error:
            # A slow reader of a non-blocking terminal misses one update; all else is final.
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                ui = args[0]
                assert isinstance(ui, SessionTerminal)
                ui.silence()

    return guarded


class SessionTerminal:
    """The console of one session, shown as `options` wants it. Owned by the main thread.

    `message` may be called from other threads. `close` must be called in the
    end, whatever happened: it gives the terminal back.
    """

    def __init__(self, options: ReportOptions, console: Console | None = None) -> None:
        self._report_options = options
        self._console = console or _stderr_console()
        self._glyphs = glyphs_for(self._console.encoding)
        self._live_wanted = (
            self._console.is_terminal and not self._console.is_dumb_terminal and not options.quiet
        )
        self._live: Live | None = None
        self._last_line_s = 0.0
        self._log = _LogToMessages(self, logging.WARNING if options.quiet else logging.INFO)
        self._log_level_before = _LOGGER.level
        _LOGGER.addHandler(self._log)
        _LOGGER.setLevel(self._log.level)

    @survives
    def message(self, text: str) -> None:
        """One line of warning or information, above the live view if there is one."""
        self._print_line(Text(f"xdpcap: {printable(text)}"))

    def close(self) -> None:
        """Give the terminal back. Does nothing the second time."""
        if self._live is not None:
            # Ended without a report: the last figures are all there is, so they stay.
            self._live.transient = False
        self._stop_live()
        _LOGGER.removeHandler(self._log)
        _LOGGER.setLevel(self._log_level_before)

    def silence(self) -> None:
        """Standard error is gone: write nothing more, and let the session go on."""
        self._console.quiet = True
        abandon(sys.stderr)

    @survives
    def _start_live(self) -> None:
        """Begin the live view, on a terminal that can show one."""
        if not self._live_wanted:
            return
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
        )
        self._live.start()
        # rich hides the cursor, and a process that is killed can't bring it back.
        self._console.show_cursor(True)

    @survives
    def _stop_live(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _due(self, elapsed_s: float) -> bool:
        """Whether to show figures now: always where they are live, else once an interval."""
        if self._report_options.quiet:
            return False
        # Ticks are never exactly on time: one that comes a little early still counts.
        due_s = self._last_line_s + 0.9 * self._report_options.stats_interval_s
        if self._live is None and elapsed_s < due_s:
            return False
        self._last_line_s = elapsed_s
        return True

    def _emit_json(self, report: dict[str, Any]) -> None:
        """The report alone on standard output."""
        # ASCII, whatever the locale; one line unless somebody looks at it.
        indent = 2 if sys.stdout.isatty() else None
        emit(json.dumps(report, indent=indent) + "\n")

    def _print_line(self, line: RenderableType) -> None:
        # Never folded: a path or a command in it is there to be copied.
        self._console.print(line, soft_wrap=True)


def run_to_exit(ui: SessionTerminal, session: Callable[[], int]) -> NoReturn:
    """Run `session`, give the terminal back, and end with its exit code."""
    try:
        code = session()
    finally:
        ui.close()
    raise SystemExit(code)


class _LogToMessages(logging.Handler):
    """What the package logs (settings restored, retries) reads as messages of the session."""

    def __init__(self, ui: SessionTerminal, level: int) -> None:
        super().__init__(level)
        self._ui = ui

    def emit(self, record: logging.LogRecord) -> None:
        """Show the record's text; level and logger mean nothing to a user."""
        self._ui.message(record.getMessage())


_LOGGER = logging.getLogger("xdpcap")


def _stderr_console() -> Console:
    on_terminal = sys.stderr.isatty()
    # A width that somebody set is kept. force_terminal as it is: FORCE_COLOR may ask for
    # colours in a pipe, but a table that moves the cursor there would be garbage.
    width = None if on_terminal or "COLUMNS" in os.environ else WIDTH_OFF_TERMINAL
    return StderrConsole(stderr=True, force_terminal=on_terminal, width=width, highlight=False)
