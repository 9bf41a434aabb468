"""Runs a command on each complete file, in the background.

One thread runs one command at a time, so that compressing files never takes
more than one processor from the recording. Nothing here can hold up a closer:
`submit` never waits.

What a recording that ends leaves waiting is handed to a process of its own, which is
this module run with `-m`: no file misses its command, and the end does not wait for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

from xdpcap.errors import UsageError
from xdpcap.host.threads import ThreadGroup, failure_line

#: Files waiting for the command. A command that falls this far behind never catches up.
QUEUE_LIMIT = 256
_STDERR_TAIL_BYTES = 4096


class PostRotate:
    """Calls `argv` with a file's path in place of {}, or appended if there is no {}.

    Without a shell; standard input and output are /dev/null, in a session of
    its own, so that Ctrl-C stops the recording and not the command. Failures go
    to `report`, called from the thread, one line each, and are counted in
    `failure_count`. Raises UsageError if the program isn't there.
    """

    def __init__(
        self,
        argv: Sequence[str],
        report: Callable[[str], None],
        *,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self._argv = tuple(argv)
        self._report = report
        if "{}" not in argv[0] and shutil.which(argv[0]) is None:
            raise UsageError(
                f"--post-rotate {shlex.join(argv)}: no program {argv[0]!r} to run; "
                "give its path, or an installed program's name"
            )
        self.failure_count = 0
        self._lock = threading.Lock()
        self._queue: queue.Queue[str | None] = queue.Queue(queue_limit)
        self._running = ""
        self._running_pid = 0
        self._closed = False
        group = ThreadGroup()
        self._thread = group.add("post-rotate", self._run, failed=self._fail, may_stay=True)
        group.start()

    def submit(self, path: str) -> None:
        """Have the command run on `path` when those before it are done."""
        try:
            self._queue.put_nowait(path)
        except queue.Full:
            self._fail(f"{path} was left out: {self._queue.maxsize} files are waiting already")

    def close(self, timeout_s: float) -> None:
        """Wait for the commands to finish, at most `timeout_s`.

        One that is still running is left running, what waits behind it goes on in another
        process, and a report says so. Idempotent.
        """
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout_s)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if not self._thread.running:
            return
        left = self._drain()
        # It may have ended since.
        parts = [f"left running: {running}"] if (running := self._running) else []
        if left:
            files = "1 file waits" if len(left) == 1 else f"{len(left)} files wait"
            parts.append(f"{files} behind it, seen to by process {self._hand_over(left)}")
        if parts:
            self._report(f"post-rotate: {'; '.join(parts)}")

    def _hand_over(self, paths: Sequence[str]) -> int:
        """Have a process of its own run the command on these; returns its id."""
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        assert process.stdin is not None
        with process.stdin:
            json.dump([self._running_pid, [self._command(path) for path in paths]], process.stdin)
        # Nobody waits for it; Popen would warn of that.
        process.returncode = 0
        return process.pid

    def _drain(self) -> list[str]:
        """Take what is waiting away from the thread, which then ends after its command."""
        left = []
        while True:
            try:
                path = self._queue.get_nowait()
            except queue.Empty:
                break
            if path is not None:
                left.append(path)
        self._queue.put(None)
        return left

    def _run(self) -> None:
        while (path := self._queue.get()) is not None:
            argv = self._command(path)
            self._running = shlex.join(argv)
            try:
                self._call(argv, path)
            except BaseException as exc:
                # Whatever it is, the files behind this one still get their command.
                self._fail(f"on {path}: {failure_line(exc)}")
            finally:
                self._running = ""

    def _command(self, path: str) -> list[str]:
        if any("{}" in word for word in self._argv):
            return [word.replace("{}", path) for word in self._argv]
        return [*self._argv, path]

    def _call(self, argv: list[str], path: str) -> None:
        if not os.path.lexists(path):
            self._fail(f"not run on {path}: it was deleted or moved before its turn")
            return
        with _scratch_file() as errors:
            try:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    close_fds=True,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                self._fail(f"{shlex.join(argv)}: {getattr(error, 'strerror', None) or error}")
                return
            self._running_pid = process.pid
            status = process.wait()
            if status:
                self._fail(f"{shlex.join(argv)}: {_outcome(status)}{_last_line(errors)}")

    def _fail(self, text: str, count: int = 1) -> None:
        with self._lock:
            self.failure_count += count
        self._report(f"post-rotate: {text}")


def _scratch_file() -> IO[bytes]:
    """Where a command's messages go: not to the terminal, which may show a live table.

    A file, not a pipe: a program left behind by the command can't block on it,
    nor keep us waiting for its end.
    """
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return open(os.devnull, "r+b")


def _outcome(status: int) -> str:
    if status > 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _last_line(errors: IO[bytes]) -> str:
    """The last thing the command said, as one printable line."""
    end = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, end - _STDERR_TAIL_BYTES))
    lines = errors.read(_STDERR_TAIL_BYTES).decode("utf-8", "replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    if not said:
        return ""
    return ": " + "".join(c if c.isprintable() else "?" for c in said[-1][-200:])


def _run_the_rest() -> None:
    """What is left of a recording that has ended: one command after the other."""
    pid, commands = json.load(sys.stdin)
    with contextlib.suppress(OSError):  # it may have ended
        select.select([os.pidfd_open(pid)], [], [])
    for argv in commands:
        with contextlib.suppress(OSError):  # nobody is there to be told
            subprocess.run(
                argv,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )


if __name__ == "__main__":
    _run_the_rest()
