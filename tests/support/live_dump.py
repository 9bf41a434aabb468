"""Run `xdpcap dump -i rx0` in a lab's receiver and read what it prints as it prints it.

with Looker(lab, ["-t"]) as looker:
    send_frames(lab, frames)
    lines = looker.lines(len(frames))
    seen = looker.stop()  # SIGINT; seen.returncode, .rest, .stderr, .counts
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import forked_command
from timeouts import PATIENCE

from xdpcap.bench.lab import Lab, in_netns

READY = b"xdpcap: looking at "
COUNTED = r"^(\d+) packets? (captured|received by filter|dropped by kernel)$"


@dataclass(frozen=True)
class Seen:
    """What a finished looker left: exit code, the lines that nobody had read, standard error."""

    returncode: int
    rest: list[str]
    stderr: str

    @property
    def counts(self) -> tuple[int, ...]:
        """Captured, received by filter, dropped by kernel, as tcpdump ends."""
        found = re.findall(COUNTED, self.stderr, re.M)
        assert [name for _, name in found] == ["captured", "received by filter",
                                               "dropped by kernel"], self.stderr  # fmt: skip
        return tuple(int(count) for count, _ in found)


class Looker:
    """`xdpcap dump -i rx0 ARGUMENTS...`; returns once it looks, unless `ready` is False.

    `env` makes it another machine (tests/support/patched_command.py).
    """

    def __init__(
        self,
        lab: Lab,
        arguments: Sequence[str] = (),
        *,
        interfaces: Sequence[str] = ("rx0",),
        ready: bool = True,
        env: dict[str, str] | None = None,
        stdout: Any = subprocess.PIPE,
    ) -> None:
        named = [word for name in interfaces for word in ("-i", name)]
        self.command = ["dump", *named, *arguments]
        streams = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": subprocess.PIPE}
        start = forked_command.start if env is None else _in(env)
        self.process: subprocess.Popen[bytes] = in_netns(lab.rx_ns, start, self.command, **streams)
        self._said = b""
        self._printed = b""
        if ready:
            while READY not in self._said:
                assert self.process.stderr is not None
                piece = os.read(self.process.stderr.fileno(), 4096)
                assert piece, f"{self.command} ended: {self._said.decode()}"
                self._said += piece

    def lines(self, count: int, timeout_s: float = 10.0) -> list[str]:
        """The next `count` lines, as soon as they are there."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s * PATIENCE
        while self._printed.count(b"\n") < count:
            left_s = max(deadline - time.monotonic(), 0)
            assert select.select([self.process.stdout], [], [], left_s)[0], self._printed.decode()
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            assert piece, f"{self.command} ended: {self._printed.decode()}"
            self._printed += piece
        *lines, self._printed = self._printed.split(b"\n", count)
        return [line.decode() for line in lines]

    def stop(self, number: signal.Signals | None = signal.SIGINT) -> Seen:
        """Signal it (None: wait until it ends by itself), and what it left."""
        if number is not None:
            self.process.send_signal(number)
        output, error = self.process.communicate(timeout=20 * PATIENCE)
        rest = (self._printed + (output or b"")).decode().splitlines()
        return Seen(self.process.returncode, rest, (self._said + error).decode())

    def __enter__(self) -> Looker:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.process.kill()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self.process.wait()


def _in(env: dict[str, str]) -> Any:
    return lambda arguments, **streams: forked_command.execute(arguments, env=env, **streams)
