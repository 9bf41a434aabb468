"""Run the real command line in a lab and say what came of it.

recorder = Recorder(lab, directory, ["--json"])   # returns once it records
send_frames(lab, frames)
result = recorder.stop()
assert result.report["total"]["unaccounted"] == 0
"""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked_command
from timeouts import PATIENCE

from xdpcap.bench.lab import Lab, in_netns
from xdpcap.programs.program import attached_program

# What the command prints on standard error once packets are taken.
READY = b"xdpcap: recording "
# With --quiet nothing is printed: then the program has to have been attached for this long.
QUIET_READY_S = 0.5
POLL_S = 0.01


@dataclass(frozen=True)
class Result:
    """What a finished command left: exit code, output, files, and how long its end took."""

    returncode: int
    stdout: bytes
    stderr: str
    files: list[Path]
    seconds: float

    @property
    def report(self) -> dict[str, Any]:
        """The object that --json prints; whatever else stands there fails the test."""
        return json.loads(self.stdout)

    @property
    def total(self) -> dict[str, Any]:
        """The report's totals."""
        return self.report["total"]


class Recorder:
    """`xdpcap record -i rx0 -o DIRECTORY ARGUMENTS...` inside a lab's receiver.

    `interfaces` and `output` replace the two; `ready=False` does not wait until it
    records, for commands that are to fail.  `started_s` is what the wait took.
    """

    def __init__(
        self,
        lab: Lab,
        directory: Path,
        arguments: Sequence[str] = (),
        *,
        interfaces: Sequence[str] = ("rx0",),
        output: str | None = None,
        ready: bool = True,
        timeout_s: float = 20.0,
        env: dict[str, str] | None = None,
        preexec: Callable[[], None] | None = None,
    ) -> None:
        self.lab = lab
        self.directory = directory
        # Beside the captures, not among them.
        logs = directory.parent / f"{directory.name}.logs"
        logs.mkdir(exist_ok=True)
        run = len(list(logs.iterdir()))
        self._stdout, self._stderr = logs / f"{run}.stdout", logs / f"{run}.stderr"
        named = [word for name in interfaces for word in ("-i", name)]
        self.command = ["record", *named]
        self.command += ["-o", str(directory) if output is None else output, *arguments]
        started = time.monotonic()
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            streams = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": stderr}
            if env or preexec:
                start = functools.partial(forked_command.execute, env=env or {}, preexec_fn=preexec)
            else:
                start = forked_command.start
            self.process: subprocess.Popen[bytes] = in_netns(
                lab.rx_ns, start, self.command, **streams
            )
        if ready:
            self.wait_ready(timeout_s)
        self.started_s = time.monotonic() - started

    @property
    def stderr(self) -> str:
        """What it has printed so far."""
        return self._stderr.read_text(errors="replace")

    def wait_ready(self, timeout_s: float = 20.0) -> None:
        """Return once packets are taken; AssertionError when it ended or takes too long."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        quiet = {"-q", "--quiet"} & set(self.command)
        attached_since = None
        while READY not in self._stderr.read_bytes():
            code = self.process.poll()
            assert code is None, f"{self._shown()} ended with {code}: {self.stderr}"
            assert time.monotonic() < deadline, f"{self._shown()} is not ready: {self.stderr}"
            if quiet and in_netns(self.lab.rx_ns, attached_program, self.lab.rx_ifindex):
                attached_since = attached_since or time.monotonic()
                if time.monotonic() - attached_since > QUIET_READY_S * PATIENCE:
                    return
            time.sleep(POLL_S)

    def wait_for(self, condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
        """The condition's value once it is true; AssertionError when it stays false."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        while not (value := condition()):
            assert time.monotonic() < deadline, f"waited in vain; so far: {self.stderr}"
            time.sleep(POLL_S)
        return value

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the recorder."""
        self.process.send_signal(number)

    def stop(
        self, number: signal.Signals | None = signal.SIGINT, timeout_s: float = 10.0
    ) -> Result:
        """Signal it (None: wait for it to end by itself) and return the `Result`."""
        started = time.monotonic()
        if number is not None and self.process.poll() is None:
            self.send_signal(number)
        try:
            self.process.wait(timeout_s * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self._shown()} did not end in {timeout_s} s: {self.stderr}"
            ) from None
        return self._result(time.monotonic() - started)

    def wait(self, timeout_s: float = 30.0) -> Result:
        """The `Result` of a command that ends by itself (--count, --duration, an error)."""
        return self.stop(None, timeout_s)

    def kill(self) -> Result:
        """SIGKILL, whatever it does; safe to call again."""
        self.process.kill()
        self.process.wait()
        return self._result(0.0)

    def _result(self, seconds: float) -> Result:
        files = sorted(self.directory.iterdir()) if self.directory.is_dir() else []
        return Result(
            self.process.returncode, self._stdout.read_bytes(), self.stderr, files, seconds
        )

    def _shown(self) -> str:
        return "xdpcap " + " ".join(self.command)
