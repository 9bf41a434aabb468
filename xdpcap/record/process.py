"""`xdpcap record` as a process of our own: start it, wait until it records, end it, its report."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from xdpcap.errors import XdpcapError
from xdpcap.host.threads import ThreadGroup

# One that can't start ends, and says why: this is for one that hangs.  A NIC's link may take 15 s,
# and Python's imports on a machine that does much else a minute.
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0


class RecordingProcess:
    """A recording with these options, beside `--json`; started in the caller's namespace.

    In a session of its own, so that a terminal's Ctrl-C reaches it through `stop` only.
    """

    def __init__(self, options: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "xdpcap", "record", "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Names of interfaces and files are bytes to the kernel.
            errors="backslashreplace",
            start_new_session=True,
        )
        self._said: list[str] = []
        self._ready = threading.Event()
        # Why nobody listens to it any more, if it has not ended.
        self._deaf: str | None = None
        self._listener = ThreadGroup().add(
            "recorder's messages", self._listen, failed=self._fail, may_stay=True
        )
        try:
            self._listener.start()
        except BaseException:
            self.close()
            raise

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line.strip())
            if ": recording " in line:
                self._ready.set()
        self._ready.set()

    def _fail(self, text: str) -> None:
        self._deaf = text
        self._ready.set()

    def _require_listener(self) -> None:
        if self._deaf is not None:
            raise XdpcapError(f"its messages can't be read: {self._deaf}")

    def wait_ready(self) -> None:
        """Return once it records; XdpcapError with its own words when it does not."""
        self._ready.wait(READY_TIMEOUT_S)
        self._require_listener()
        if self._process.poll() is not None or not self._ready.is_set():
            said = self._said[-1] if self._said else "it does not start"
            raise XdpcapError(said.removeprefix("xdpcap: "))

    @property
    def failure(self) -> str | None:
        """Its last words if it has ended with another exit code than 0."""
        if not self._process.poll():
            return None
        self._listener.join(STOP_TIMEOUT_S)
        return self._said[-1].removeprefix("xdpcap: ") if self._said else "it ended without a word"

    def stop(self) -> dict[str, Any]:
        """End it; its report, {"total": {}} when it left none."""
        # It may wait for a reader of its messages for ever.
        self._require_listener()
        self._process.send_signal(signal.SIGINT)
        assert self._process.stdout is not None
        try:
            text = self._process.stdout.read()
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise XdpcapError("the recorder does not stop") from None
        report: dict[str, Any] = json.loads(text) if text else {"total": {}}
        return report

    def close(self) -> None:
        """End it whatever happened."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
