"""The measured recorders: the drop loop and `xdpcap record`, each in its own process.

A `Recorder` defines how to start one, how to recognize that it records, and how to read its
results from its files and its report.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xdpcap.bench.lab.pair import RX_NAME
from xdpcap.errors import XdpcapError


class BenchmarkError(XdpcapError):
    """An invalid measurement: a recorder failed, or counts do not agree."""


@dataclass(frozen=True)
class Place:
    """A run's directory, and the CPU that the recorder is pinned to."""

    directory: Path
    cpu: int

    @property
    def files(self) -> list[Path]:
        """The capture files, complete or not, without the recorder's output."""
        return sorted(path for path in self.directory.iterdir() if path.is_file())

    @property
    def written_bytes(self) -> int:
        """Bytes written to the files so far; a file that is mapped for writing may be longer."""
        found = [path.stat() for path in self.files]
        return sum(min(one.st_size, one.st_blocks * 512) for one in found)


@dataclass(frozen=True)
class Outcome:
    """The packets that a recorder kept; `report` is its own report."""

    kept: int
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recorder:
    """A program that takes packets from `rx0` until SIGINT.

    `ready` appears in its output once it records; `skb`: it receives packets only as skbs;
    `read(place, stdout, stderr)` is called after it has ended.
    """

    name: str
    argv: Callable[[Place], list[str]]
    ready: str
    read: Callable[[Place, str, str], Outcome]
    skb: bool = False
    program: str = sys.executable


DROP_LOOP = "drop loop"
OURS = "xdpcap pcapng"


def drop_loop() -> Recorder:
    """The limit: the recorder's socket set-up, receiving and dropping packets."""
    return Recorder(DROP_LOOP, _drop_argv, "ready", _read_drop)


def xdpcap(file_format: str, options: Sequence[str] = (), name: str = "") -> Recorder:
    """The command as a user runs it, in one of its two formats; `options` are added."""

    def argv(place: Place) -> list[str]:
        return [
            *(sys.executable, "-m", "xdpcap", "record", "-i", RX_NAME),
            *("-o", str(place.directory), "--format", file_format, "--json"),
            *("--cpus", str(place.cpu), *options),
        ]

    return Recorder(name or f"xdpcap {file_format}", argv, "recording ", _read_xdpcap)


def count_packets(files: list[Path]) -> int:
    """The packets in capture files, counted by capinfos, which reads every record."""
    if not files:
        return 0
    out = subprocess.run(
        ["capinfos", "-T", "-r", "-c", "-M", *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )
    if out.returncode != 0:
        raise BenchmarkError(f"capinfos: {out.stderr.strip().splitlines()[-1]}")
    return sum(int(line.rsplit("\t", 1)[1]) for line in out.stdout.splitlines())


def _drop_argv(place: Place) -> list[str]:
    return [sys.executable, "-m", "benchmarks.drop_loop", RX_NAME]


def _read_drop(place: Place, stdout: str, stderr: str) -> Outcome:
    report = json.loads(stdout)
    return Outcome(int(report["received"]), report)


def _read_xdpcap(place: Place, stdout: str, stderr: str) -> Outcome:
    report = json.loads(stdout)
    total = report["total"]
    kept = count_packets([Path(file["path"]) for file in report["files"]])
    if kept != total["written"]:
        raise BenchmarkError(f"capinfos counts {kept} packets, the report {total['written']}")
    if total["unaccounted"]:
        raise BenchmarkError(f"{total['unaccounted']} packets are unaccounted")
    return Outcome(kept, total)
