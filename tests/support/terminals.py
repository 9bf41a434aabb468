"""Terminals for tests: one in memory, one that has gone, and a real one."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rich.console import Console

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|4[0-7]|38|48|9[0-7])(?:;[0-9;]*)?m")


class Memory:
    """A console that writes into memory."""

    def __init__(self, *, terminal: bool = False, width: int = 120) -> None:
        self.file = io.StringIO()
        self.console = Console(
            file=self.file,
            force_terminal=terminal,
            width=width,
            height=24,
            highlight=False,
            _environ={"TERM": "xterm-256color", **({"NO_COLOR": "1"} if not terminal else {})},
        )

    @property
    def lines(self) -> list[str]:
        """What was written, without escapes."""
        return ESCAPE.sub("", self.file.getvalue()).splitlines()


class Screen(Memory):
    """A session's user interface that writes into memory: `make_ui(options, console)`."""

    def __init__(
        self,
        make_ui: Callable[[Any, Console], Any],
        options: Any,
        *,
        terminal: bool = False,
        width: int = 120,
    ) -> None:
        super().__init__(terminal=terminal, width=width)
        self.ui = make_ui(options, self.console)


@contextmanager
def session_screen(
    make_ui: Callable[[Any, Console], Any],
    options: Any,
    *,
    terminal: bool = False,
    width: int = 120,
    **changes: Any,
) -> Iterator[Screen]:
    """A `Screen` of `options` with changes, closed at the end."""
    made = Screen(make_ui, replace(options, **changes), terminal=terminal, width=width)
    try:
        yield made
    finally:
        made.ui.close()


class Gone(io.StringIO):
    """A stream whose reader has gone."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error
        self.write_count = 0

    def write(self, text: str) -> int:
        self.write_count += 1
        raise self.error


def drive(script: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """`script` in a process of its own, in which tests can be imported."""
    script = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n{script}"
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        timeout=30,
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def drive_on_terminal(
    script: str, **environment: str
) -> tuple[subprocess.CompletedProcess[bytes], str]:
    """`script` with standard error on a terminal of 80 columns; its end, and what it shows."""
    leader, follower = pty.openpty()
    done = drive(script, stderr=follower, env={"COLUMNS": "80", "LINES": "24", **environment})
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # EIO: all that was written has been read, and nobody writes any more
            break
        shown += part
    os.close(leader)
    return done, shown.decode()
