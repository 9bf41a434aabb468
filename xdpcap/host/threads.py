"""The threads of a session: one owner starts, stops and joins them.

Purpose: no thread fails unseen, and none runs on memory that has been unmapped.  Every exception
of a thread is caught and reported.  A thread that does not end in time ends the process, before
anything that it uses is freed.
Owner: the thread that makes the group; it alone starts, stops and joins.
Frees: nothing of its own.  Close the group before what its threads use, so put it on an
ExitStack after those.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from xdpcap.errors import XdpcapError, explain

# How long a stop may take before a thread is said to hang.
JOIN_S = 5.0
# How long is waited for a thread that may be left behind.
LEAVE_S = 0.1


class GroupThread:
    """One thread of a `ThreadGroup`.

    `failure` is the exception that ended it, or that was raised when it was asked to stop; None
    without one.
    """

    def __init__(
        self,
        name: str,
        target: Callable[[], None],
        *,
        stop: Callable[[], None] | None,
        failed: Callable[[str], None] | None,
        notify: Callable[[], None],
        may_stay: bool,
    ) -> None:
        self.name = name
        self.failure: BaseException | None = None
        self.may_stay = may_stay
        self._target = target
        self._stop = stop
        self._failed = failed
        self._notify = notify
        # A daemon: the interpreter must not wait for one that was left behind.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._thread.ident is not None

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._thread.is_alive()

    @property
    def ident(self) -> int:
        """Its identifier, for its CPU clock; it must have been started."""
        assert self._thread.ident is not None
        return self._thread.ident

    def start(self) -> None:
        """Start it; raises XdpcapError when the system gives no thread."""
        try:
            self._thread.start()
        except (RuntimeError, MemoryError) as exc:
            raise XdpcapError(
                f"thread {self.name} can't be started ({exc or 'out of memory'}); raise the limit "
                "of threads with `ulimit -u` or TasksMax=, or use fewer queues"
            ) from exc

    def request_stop(self) -> None:
        """Ask it to end; nothing when it does not run.  Whatever that raises is its failure."""
        if self.running and self._stop is not None:
            try:
                self._stop()
            except BaseException as exc:
                # The others must be asked all the same, and all of them be waited for.
                self._report(exc)

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; True when it does not run any more, or never did."""
        if self.started:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._target()
        except BaseException as exc:
            self._report(exc)
        finally:
            self._notify()

    def _report(self, exc: BaseException) -> None:
        self.failure = exc
        if self._failed is not None:
            self._failed(failure_line(exc))


class ThreadGroup:
    """Threads that are started, stopped and joined together; a context manager.

    `notify` is called from a thread when it ends, for whatever reason.
    """

    def __init__(self, notify: Callable[[], None] = lambda: None) -> None:
        self._notify = notify
        self._threads: list[GroupThread] = []

    def __enter__(self) -> ThreadGroup:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def add(
        self,
        name: str,
        target: Callable[[], None],
        *,
        stop: Callable[[], None] | None = None,
        failed: Callable[[str], None] | None = None,
        may_stay: bool = False,
    ) -> GroupThread:
        """A thread that runs `target`, not started yet.

        `stop` asks it to end and is called from the owner's thread.  `failed` takes one line
        about an exception, in the thread itself.  One that `may_stay` uses nothing that is
        freed, and may sit in a read: it is left behind when it does not end at once.
        """
        thread = GroupThread(
            name, target, stop=stop, failed=failed, notify=self._notify, may_stay=may_stay
        )
        self._threads.append(thread)
        return thread

    def start(self) -> None:
        """Start all that have not been started.

        Raises XdpcapError when one can't be; those before it run until stop().
        """
        for thread in self._threads:
            if not thread.started:
                thread.start()

    def stop(self, timeout_s: float = JOIN_S) -> list[GroupThread]:
        """Ask all to end and wait for them; returns those that still run, and must not stay."""
        for thread in self._threads:
            thread.request_stop()
        return self.join(timeout_s)

    def join(self, timeout_s: float = JOIN_S) -> list[GroupThread]:
        """Wait for all to end; returns those that still run, and must not stay."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            left_s = max(deadline - time.monotonic(), 0.0)
            thread.join(min(left_s, LEAVE_S) if thread.may_stay else left_s)
        return self.running

    @property
    def running(self) -> list[GroupThread]:
        """Those that run now, and must not stay."""
        return [thread for thread in self._threads if thread.running and not thread.may_stay]

    def close(self, timeout_s: float = JOIN_S) -> None:
        """Stop all.  When one hangs the process ends here, with exit code 1."""
        try:
            self.stop(timeout_s)
        finally:
            # Also when a signal's handler has raised while they were waited for.
            if hung := self.running:
                end_process([f"thread {thread.name} does not end" for thread in hung])


def failure_line(exc: BaseException) -> str:
    """One line about an exception of a thread; XDPCAP_DEBUG=1 shows where it comes from, too."""
    if os.environ.get("XDPCAP_DEBUG") == "1":
        with contextlib.suppress(OSError, ValueError, MemoryError):
            traceback.print_exception(exc)
    try:
        return explain(exc)
    except MemoryError:  # there is none to say more
        return type(exc).__name__


def end_process(problems: Sequence[str] = ()) -> NoReturn:
    """End the process now, with exit code 1, when a thread may still use what would be freed.

    What was changed on the host goes with the process, or is put back by a guardian.
    """
    with contextlib.suppress(OSError, ValueError):
        for problem in problems:
            print(f"xdpcap: {problem}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(1)
