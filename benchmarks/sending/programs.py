"""The measured senders: the bare sending loop, `xdpcap replay` and tcpreplay.

Each sends the file `FILE` in its place through `tx0`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.recorders import BenchmarkError, Place
from xdpcap.bench.lab.frames import blasted_frame
from xdpcap.bench.lab.pair import TX_NAME
from xdpcap.savefile import headers

FILE = "in.pcap"
# Fits the UMEM of a replay (16 MiB, frames of 2048 bytes), so that nothing is copied.
PACKETS = 4000
BARE, OURS, TCPREPLAY = "bare loop", "xdpcap replay", "tcpreplay"
# tcpreplay's ways of waiting, beside its default.
TCPREPLAY_TIMERS = ("gtod", "nano")

Count = Callable[[str, str], int | None]


@dataclass(frozen=True)
class Sender:
    """A program that sends until SIGINT, or until it has sent `count` packets.

    `sent(stdout, stderr)` is its own count after its end, None if it reports none.
    `pins_itself`: it pins its sending thread to the place's CPU, but not its other threads.
    """

    name: str
    argv: Callable[[Place], list[str]]
    sent: Count
    pins_itself: bool = False
    ready: str = ""


def write_capture(directory: Path, size: int) -> Path:
    """`PACKETS` frames of `size` bytes without FCS, a microsecond apart."""
    path = directory / FILE
    head = headers.pcap_header(0)
    records = []
    for number in range(PACKETS):
        frame = blasted_frame(size, number)
        stamp = (0, number * 1000, size, size)
        records.append(b"".join(part.to_bytes(4, "little") for part in stamp) + frame)
    path.write_bytes(head + b"".join(records))
    return path


def bare() -> Sender:
    """The limit: the replay's socket set-up, posting the same frames repeatedly."""
    argv = partial(_module, "benchmarks.sending.tx_loop", [])
    return Sender(BARE, argv, _json_count)


def ours_at_top_speed() -> Sender:
    """The command as a user runs it."""
    return _ours(["--top-speed", "--loop", "0"])


def ours_at(pps: int, count: int) -> Sender:
    """The command as a user runs it, paced."""
    return _ours(["--pps", str(pps), "--loop", "0", "--limit", str(count)])


def tcpreplays_at_top_speed() -> list[Sender]:
    """tcpreplay as fast as it can; through AF_XDP too where the build has it."""
    options = ["--topspeed", "--loop", "0"]
    # When interrupted, it reports the count of an earlier time.
    found = [_tcpreplay(TCPREPLAY, options, _no_count)]
    if _has_xdp():
        found.append(_tcpreplay(f"{TCPREPLAY} --xdp", [*options, "--xdp"], _no_count))
    return found


def tcpreplays_at(pps: int, count: int) -> list[Sender]:
    """tcpreplay paced, with its default and with each other way of waiting."""
    loops = -(-count // PACKETS)
    options = [f"--pps={pps}", f"--loop={loops}", "--limit", str(count)]
    found = [_tcpreplay(TCPREPLAY, options, _tcpreplay_count)]
    for timer in TCPREPLAY_TIMERS:
        row = f"{TCPREPLAY} {timer}"
        found.append(_tcpreplay(row, [*options, f"--timer={timer}"], _tcpreplay_count))
    return found


def _ours(options: list[str]) -> Sender:
    def argv(place: Place) -> list[str]:
        return [
            *(sys.executable, "-m", "xdpcap", "replay", str(place.directory / FILE)),
            *("-i", TX_NAME, "--json", "--cpus", str(place.cpu), *options),
        ]

    return Sender(OURS, argv, _json_count, pins_itself=True)


def _tcpreplay(name: str, options: list[str], sent: Count) -> Sender:
    def argv(place: Place) -> list[str]:
        capture = str(place.directory / FILE)
        return [TCPREPLAY, "-i", TX_NAME, "--preload-pcap", "-q", *options, capture]

    return Sender(name, argv, sent)


def _has_xdp() -> bool:
    if shutil.which(TCPREPLAY) is None:
        return False
    out = subprocess.run([TCPREPLAY, "--help"], capture_output=True, text=True, check=False)
    return "--xdp" in out.stdout + out.stderr


def _module(module: str, options: list[str], place: Place) -> list[str]:
    capture = str(place.directory / FILE)
    return [sys.executable, "-m", module, TX_NAME, capture, *options]


def _json_count(stdout: str, stderr: str) -> int:
    return int(json.loads(stdout)["sent"])


def _no_count(stdout: str, stderr: str) -> None:
    return None


def _tcpreplay_count(stdout: str, stderr: str) -> int:
    match = re.search(r"^Actual: (\d+) packets", stdout + stderr, re.MULTILINE)
    if match is None:
        raise BenchmarkError("tcpreplay reports no packet count")
    return int(match[1])
