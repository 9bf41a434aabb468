"""Run `xdpcap replay` in a lab's sender and say what came of it.

replay = Replay(lab, ["--top-speed", str(path)])
result = replay.wait()
assert result.report["sent"] == 1000
"""

from __future__ import annotations

import functools
import json
import signal
import struct
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked_command
from timeouts import PATIENCE

from xdpcap.bench.lab import Lab, in_netns

NANOSECOND_MAGIC = 0xA1B23C4D
SECOND_NS = 10**9


@dataclass(frozen=True)
class Sent:
    """What a finished replay left: exit code, output, and how long it took to end."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def report(self) -> dict[str, Any]:
        """The object that --json prints; whatever else stands there fails the test."""
        return json.loads(self.stdout)


class Replay:
    """`xdpcap replay -i tx0 --json ARGUMENTS...` inside a lab's sender."""

    def __init__(
        self,
        lab: Lab,
        arguments: Sequence[str | Path],
        *,
        interface: str = "tx0",
        stdin: Any = subprocess.DEVNULL,
        env: dict[str, str] | None = None,
    ) -> None:
        self.command = ["replay", "-i", interface, "--json", *map(str, arguments)]
        self.process: subprocess.Popen[str] = in_netns(
            lab.tx_ns,
            functools.partial(forked_command.execute, env=env) if env else forked_command.start,
            self.command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self, number: signal.Signals = signal.SIGINT, timeout_s: float = 10.0) -> Sent:
        """Signal it and return what it left."""
        self.process.send_signal(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 60.0) -> Sent:
        """What it left, once it has ended by itself."""
        started = time.monotonic()
        try:
            stdout, stderr = self.process.communicate(timeout=timeout_s * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, stderr = self.process.communicate()
            raise AssertionError(f"{self.command} did not end in {timeout_s} s: {stderr}") from None
        return Sent(self.process.returncode, stdout, stderr, time.monotonic() - started)


def timed_pcap(packets: Iterable[tuple[int, bytes]]) -> bytes:
    """A nanosecond pcap file of (time in ns since 1970, packet) pairs."""
    parts = [struct.pack("<IHHiIII", NANOSECOND_MAGIC, 2, 4, 0, 0, 262144, 1)]
    for ts_ns, packet in packets:
        head = struct.pack("<IIII", *divmod(ts_ns, SECOND_NS), len(packet), len(packet))
        parts.append(head + packet)
    return b"".join(parts)


def pcap_file(path: Path, frames: Iterable[bytes], gap_ns: int = 1000) -> Path:
    """A capture file of these frames, one every `gap_ns`."""
    path.write_bytes(timed_pcap((SECOND_NS + n * gap_ns, f) for n, f in enumerate(frames)))
    return path
