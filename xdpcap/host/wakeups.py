"""What the main thread waits for: signals, its threads, descriptors that it watches, time.

Signal handlers only set flags and write to a socket pair, so nothing is interrupted
half-way.  SIGINT and SIGTERM ask for a stop, the second of them ends the process at
once; SIGHUP asks for new files.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from types import FrameType
from typing import Any, Protocol

_STOPS = (signal.SIGINT, signal.SIGTERM)


class Watched(Protocol):
    """What becomes readable when there is something to look at."""

    def fileno(self) -> int: ...


class Wakeups:
    """Context manager: installs the handlers on entry, puts the old ones back on exit.

    What is `watched` is the caller's, who reads it after each wait and closes it.
    """

    def __init__(self, *watched: Watched) -> None:
        self.stopped = False
        self._hangup = False
        self._old: dict[signal.Signals, Any] = {}
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._watched = watched
        self._old_wakeup = -1

    def __enter__(self) -> Wakeups:
        self._old_wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (*_STOPS, signal.SIGHUP):
            self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        self._reader.close()
        self._writer.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._hangup = True
        elif self.stopped:
            # The second one: the bpf_link goes away with the process.
            os._exit(128 + number)
        else:
            self.stopped = True

    def notify(self) -> None:
        """Wake the main thread; from any thread."""
        with contextlib.suppress(OSError):
            self._writer.send(b"n")

    def wait(self, timeout_s: float) -> None:
        """Sleep until something happens, at most so long."""
        if self.stopped:
            return
        deadline = time.monotonic() + timeout_s
        poller = select.poll()
        poller.register(self._reader, select.POLLIN)
        for watched in self._watched:
            poller.register(watched.fileno(), select.POLLIN)
        poller.poll(max(0, int((deadline - time.monotonic()) * 1000) + 1))
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(4096)

    def take_hangup(self) -> bool:
        """Whether SIGHUP has come since the last call."""
        hangup, self._hangup = self._hangup, False
        return hangup
