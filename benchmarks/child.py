"""A process in one of the lab's namespaces, and its CPU time."""

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
# After its ready line a recorder may still make a few system calls.
READY_PAUSE_S = 0.3
# A recorder is idle when it used less than SETTLED_CPU_NS in SETTLED_S, which is longer than the
# second after which libpcap receives a block that is not full.
SETTLED_S = 1.25
SETTLED_CPU_NS = 5_000_000
LOOK_S = 0.01
# The CPU clock of a process (MAKE_PROCESS_CPUCLOCK, CPUCLOCK_SCHED of
# include/linux/posix-timers.h): nanoseconds of all its threads, including io_uring's workers.
CPUCLOCK_SCHED = 2
TAIL_LINES = 3


class Program(Protocol):
    """A program to run as a child: a recorder or a sender."""

    @property
    def name(self) -> str:
        """The name in messages."""

    @property
    def ready(self) -> str:
        """The output that shows that it is ready; "" for none."""

    @property
    def argv(self) -> Callable[[Place], list[str]]:
        """The command line."""


class Child:
    """One process in the lab; a context manager that always ends it.

    Its files are in `place`; its output goes to `stdout` and `stderr` in `logs`.
    Without `pinned` it may run on all CPUs, and set its own affinity.
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
        """Wait until it is ready.  Raises BenchmarkError when it ends or hangs instead."""
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
        """Wait until it has processed all packets: it uses no more CPU."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        used_ns = self.cpu_ns()
        while time.monotonic() < deadline:
            time.sleep(SETTLED_S)
            used_ns, before_ns = self.cpu_ns(), used_ns
            if used_ns - before_ns < SETTLED_CPU_NS:
                return
        raise BenchmarkError(f"{self._name} is still busy {SETTLE_TIMEOUT_S:g} s after the load")

    def finish(self) -> None:
        """Wait until it ends by itself.  Raises BenchmarkError when it fails or hangs."""
        if not self._wait(FINISH_TIMEOUT_S):
            raise BenchmarkError(f"{self._name} does not end")
        if self._status:
            raise BenchmarkError(f"{self._name} ended with {self._ending()}")

    def stop(self) -> float:
        """End it with SIGINT; returns its total CPU time in seconds (wait4)."""
        os.kill(self.pid, signal.SIGINT)
        if not self._wait(STOP_TIMEOUT_S):
            raise BenchmarkError(f"{self._name} does not stop on SIGINT")
        self.finish()
        assert self._usage is not None
        return self._usage.ru_utime + self._usage.ru_stime

    @property
    def stdout(self) -> str:
        """Its standard output so far."""
        return (self._logs / "stdout").read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """Its standard error so far."""
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
        """Whether it ended within that time."""
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
    # Only wait4() may reap it: it returns the CPU time.
    process.returncode = 0
    return process.pid
