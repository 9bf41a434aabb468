"""A process running in one of the lab's namespaces, watched by its CPU clock."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from benchmarks.recorders import BenchmarkError, Place
from xdpcap.bench.lab.namespaces import in_netns

READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 60.0
FINISH_TIMEOUT_S = 120.0
SETTLE_TIMEOUT_S = 30.0
# After its ready line a recorder may still have a call or two to make.
READY_PAUSE_S = 0.3
# A recorder has nothing more to do when it used less than SETTLED_CPU_NS in SETTLED_S:
# longer than the second after which libpcap is handed a block that is not full.
SETTLED_S = 1.25
SETTLED_CPU_NS = 5_000_000
LOOK_S = 0.01
# The kernel's clock of a whole process (MAKE_PROCESS_CPUCLOCK, CPUCLOCK_SCHED of
# include/linux/posix-timers.h): nanoseconds of all its threads, io_uring's workers too.
CPUCLOCK_SCHED = 2
TAIL_LINES = 3


class Program(Protocol):
    """What can run as a child: a recorder, or a sender."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def ready(self) -> str:
        """What it says when it has begun; "" when it says nothing."""

    @property
    def argv(self) -> Callable[[Place], list[str]]:
        """Its command line."""


class Child:
    """One process in the lab; a context manager that leaves none behind.

    Its files are in `place`; what it says goes to `stdout` and `stderr` in `logs`.
    Without `pinned` it may run on every CPU, and choose by itself.
    """

    def __init__(
        self, program: Program, netns: str, place: Place, logs: Path, *, pinned: bool = True
    ) -> None:
        self._name = program.name
        self._ready = program.ready
        self._logs = logs
        self._usage: resource.struct_rusage | None = None
        self._status: int | None = None
        with (logs / "stdout").open("wb") as out, (logs / "stderr").open("wb") as err:
            cpus = {place.cpu} if pinned else set(range(os.cpu_count() or 1))
            argv = program.argv(place)
            self.pid = in_netns(netns, _spawn, argv, cpus, out.fileno(), err.fileno())

    def wait_ready(self) -> None:
        """Return once it has begun.  Raises BenchmarkError when it ends or hangs instead."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self._ready not in self.stdout + self.stderr:
            self._alive()
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{self._name} is not ready after {READY_TIMEOUT_S:g} s")
            time.sleep(LOOK_S)
        time.sleep(READY_PAUSE_S)
        self._alive()

    def cpu_ns(self) -> int:
        """CPU time used so far: user and system, all threads."""
        self._alive()
        return time.clock_gettime_ns((~self.pid << 3) | CPUCLOCK_SCHED)

    def settle(self) -> None:
        """Return when it has taken what there was: it uses no more CPU."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        used_ns = self.cpu_ns()
        while time.monotonic() < deadline:
            time.sleep(SETTLED_S)
            used_ns, before_ns = self.cpu_ns(), used_ns
            if used_ns - before_ns < SETTLED_CPU_NS:
                return
        raise BenchmarkError(f"{self._name} is still busy {SETTLE_TIMEOUT_S:g} s after the load")

    def finish(self) -> None:
        """Wait for its own end.  Raises BenchmarkError when it fails or hangs."""
        if not self._wait(FINISH_TIMEOUT_S):
            raise BenchmarkError(f"{self._name} does not end")
        if self._status:
            raise BenchmarkError(f"{self._name} ended with {self._ending()}")

    def stop(self) -> float:
        """End it with SIGINT; returns the CPU seconds of its whole life (wait4)."""
        os.kill(self.pid, signal.SIGINT)
        if not self._wait(STOP_TIMEOUT_S):
            raise BenchmarkError(f"{self._name} does not stop on SIGINT")
        self.finish()
        assert self._usage is not None
        return self._usage.ru_utime + self._usage.ru_stime

    @property
    def stdout(self) -> str:
        """What it has written to standard output."""
        return (self._logs / "stdout").read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """What it has written to standard error."""
        return (self._logs / "stderr").read_text(errors="replace")

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._wait(STOP_TIMEOUT_S)

    def _alive(self) -> None:
        if self._wait(0):
            raise BenchmarkError(f"{self._name} has ended with {self._ending()}")

    def _wait(self, timeout_s: float) -> bool:
        """Whether it has ended within that time."""
        deadline = time.monotonic() + timeout_s
        while self._status is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._status, self._usage = os.waitstatus_to_exitcode(status), usage
            elif time.monotonic() >= deadline:
                return False
            else:
                time.sleep(LOOK_S)
        return True

    def _ending(self) -> str:
        lines = (self.stderr or self.stdout).strip().splitlines()[-TAIL_LINES:]
        return f"{self._status}: {' / '.join(lines) or 'no word'}"


def _spawn(argv: list[str], cpus: set[int], stdout: int, stderr: int) -> int:
    """Start a process; it inherits this thread's namespace and CPUs."""
    os.sched_setaffinity(0, cpus)
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
    )
    # It is waited for by wait4() alone, which tells its CPU time.
    process.returncode = 0
    return process.pid
