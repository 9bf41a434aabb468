"""Stored ratios, to compare later runs on the same machine with.

They lie in $XDG_STATE_HOME/xdpcap/bench (~/.local/state if it is not set), which neither
`make clean` nor git touches: one file per machine.  A machine is identified by processor,
kernel release, C library, compiler and Python, as a digest in the file's name and as text in
the file.  The compiler's options in setup.py are not part of it: changes of those are to be
compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import sysconfig
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.parts import ROOT
from xdpcap.errors import XdpcapError

DIGEST_CHARS = 12


@dataclass(frozen=True)
class Baseline:
    """Ratios by piece; `stored` is the time, `commit` the source they were measured with."""

    ratios: Mapping[str, float]
    stored: str
    commit: str


def identity() -> dict[str, str]:
    """The properties of the machine that two runs must share to be comparable."""
    about = describe()
    return {
        "cpu": f"{about['cpus']} x {about['cpu']}, {platform.machine()}",
        "kernel": ".".join(re.findall(r"\d+", about["kernel"])[:2]),
        "libc": " ".join(platform.libc_ver()),
        "compiler": _compiler(),
        "flags": " ".join([sysconfig.get_config_var("CFLAGS") or "", os.environ.get("CFLAGS", "")]),
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def place(machine: Mapping[str, str]) -> Path:
    """The path of a machine's baseline, which need not exist."""
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():  # required by the XDG base directory specification
        home = Path.home() / ".local" / "state"
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()
    return home / "xdpcap" / "bench" / f"{digest[:DIGEST_CHARS]}.json"


def load(path: Path) -> Baseline | None:
    """Load a baseline; None if there is none.  Raises XdpcapError if it can't be read."""
    try:
        stored = json.loads(path.read_text())
        return Baseline(stored["ratios"], stored["stored"], stored["commit"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise XdpcapError(f"{path}: no baseline ({exc!r}); remove it, or use --update") from None


def save(path: Path, machine: Mapping[str, str], ratios: Mapping[str, float]) -> None:
    """Store the ratios as those of the current source.  Raises XdpcapError on failure."""
    stored = {
        "machine": dict(machine),
        "stored": time.strftime("%Y-%m-%d %H:%M"),
        "commit": _commit(),
        "ratios": dict(ratios),
    }
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(stored, indent=1) + "\n")
        part.replace(path)
    except OSError as exc:
        raise XdpcapError(f"{path}: {exc.strerror}; set XDG_STATE_HOME elsewhere") from None


def _compiler() -> str:
    argv = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[:1]
    return _output([*argv, "--version"]).partition("\n")[0] or argv[0]


def _commit() -> str:
    """The checked-out commit, with "-dirty" if the tree has changes; "" without git."""
    return _output(["git", "describe", "--always", "--dirty"])


def _output(argv: list[str]) -> str:
    try:
        out = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return out.stdout.strip() if out.returncode == 0 else ""
