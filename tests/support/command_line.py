"""Run the command line inside the test's process, or as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from timeouts import PATIENCE

from xdpcap.cli import main


def run(*argv: str) -> int:
    """The exit code of `xdpcap argv...`."""
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error, with nothing on standard output."""
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1, output.err
    assert output.err.startswith("xdpcap: ")
    return output.err.rstrip("\n")


def raising(error: BaseException) -> Callable[[], int]:
    """A session that ends so."""

    def ends() -> int:
        raise error

    return ends


def session_double(monkeypatch: pytest.MonkeyPatch, name: str) -> SimpleNamespace:
    """Stands in for `xdpcap.NAME.session.NAME_session`.

    `called_with` are those it was called with; `ends()` gives the exit code, or raises.
    """
    double = SimpleNamespace(called_with=[], ends=lambda: 0)

    def session(options: Any, ui: Any) -> int:
        double.called_with.append(options)
        result: int = double.ends()
        return result

    module = SimpleNamespace(**{f"{name}_session": session})
    monkeypatch.setitem(sys.modules, f"xdpcap.{name}.session", module)
    return double


def xdpcap(*argv: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """The real program, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "xdpcap", *argv],
        text=True,
        timeout=30 * PATIENCE,
        check=False,
        **settings,
    )
