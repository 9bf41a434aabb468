"""The ratios that later runs on the same machine are held against.

They live in $XDG_STATE_HOME/xdpcap/bench (~/.local/state without it), out of reach of
`make clean` and of git: a file for each machine.  What makes another machine of one is
in the file's name as a digest and in the file as text: the processor, the kernel's
release, the C library, the compiler, Python.  What setup.py tells the compiler is not
among them: a change there is to be compared.
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
    """Ratios by piece; `stored` and `commit` tell when, and of which source."""

    ratios: Mapping[str, float]
    stored: str
    commit: str


def identity() -> dict[str, str]:
    """What has to be the same for two runs to be compared."""
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
    """Where a machine's baseline is, or would be."""
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():  # what the XDG base directory specification asks for
        home = Path.home() / ".local" / "state"
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()
    return home / "xdpcap" / "bench" / f"{digest[:DIGEST_CHARS]}.json"


def load(path: Path) -> Baseline | None:
    """What is stored there; None when nothing is.  XdpcapError for what can't be read."""
    try:
        stored = json.loads(path.read_text())
        return Baseline(stored["ratios"], stored["stored"], stored["commit"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise XdpcapError(f"{path}: no baseline ({exc!r}); remove it, or use --update") from None


def save(path: Path, machine: Mapping[str, str], ratios: Mapping[str, float]) -> None:
    """Store the ratios as those of the source that is here now.  XdpcapError when it fails."""
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
        raise XdpcapError(f"{path}: {exc.strerror}; XDG_STATE_HOME names another place") from None


def _compiler() -> str:
    argv = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[:1]
    return _output([*argv, "--version"]).partition("\n")[0] or argv[0]


def _commit() -> str:
    """The commit that is checked out, "-dirty" when the tree has changes; "" without git."""
    return _output(["git", "describe", "--always", "--dirty"])


def _output(argv: list[str]) -> str:
    try:
        out = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return out.stdout.strip() if out.returncode == 0 else ""
