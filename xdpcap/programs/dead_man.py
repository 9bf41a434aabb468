"""The recorder's side of the dead man's handle (bpf/dead_man.h).

The control thread says again and again that it lives, by a time in memory that it shares with
the program.  While it does not (it is stopped, or stuck in a call) the program passes every
packet to the kernel stack, so that whoever can't stop the recording is not cut off by it.
The first word after such a silence tells what it cost.

Owner: the control thread, and no other: a worker would speak for a thread that hangs.
Frees: close().

Source relied on: kernel/bpf/arraymap.c, array_map_mmap(), for BPF_F_MMAPABLE.
"""

from __future__ import annotations

import mmap
import time

from xdpcap.errors import KernelError
from xdpcap.options.units import format_grouped
from xdpcap.programs.program import Program

# Renewed so many times an interval, so that one late wake-up lets nothing go.
RENEWALS = 4


class DeadMan:
    """Renews for one program; `queues` are those whose packets would be recorded.

    Raises KernelError where the map can't be shared.
    """

    def __init__(self, program: Program, queues: tuple[int, ...], timeout_s: float) -> None:
        self._program = program
        self._queues = queues
        self._timeout_s = timeout_s
        self._renewed_ns: int | None = None
        self._passed = 0
        try:
            self._memory = mmap.mmap(program.alive_fd, mmap.PAGESIZE)
        except OSError as exc:
            raise KernelError("mmap(map alive)", exc.errno or 0) from None
        # One aligned word, written at once: the program reads it meanwhile.
        self._words = memoryview(self._memory).cast("Q")

    def renew(self) -> str | None:
        """Say that we live; what a silence before it has cost, where it was too long."""
        before, now = self._renewed_ns, time.monotonic_ns()
        self._words[0] = self._renewed_ns = now
        passed_before, self._passed = self._passed, self._count_passed()
        if before is None or (now - before) / 1e9 <= self._timeout_s:
            return None
        passed = self._passed - passed_before
        return (
            f"the recorder did not run for {(now - before) / 1e9:.1f} s: --dead-man passed "
            f"{format_grouped(passed)} packet{'' if passed == 1 else 's'} to the kernel stack; "
            "recording goes on"
        )

    def _count_passed(self) -> int:
        verdicts = self._program.verdicts()
        return sum(verdicts[queue].passed for queue in self._queues)

    def close(self) -> None:
        """Give up the shared memory; safe to call again."""
        self._words.release()
        self._memory.close()
