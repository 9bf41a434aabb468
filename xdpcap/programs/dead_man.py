"""The recorder's side of the dead man's handle (bpf/dead_man.h).

The control thread keeps renewing a time stamp in memory that it shares with the program.  When
the time stamp is too old (the thread is stopped, or blocked in a call), the program passes all
packets to the kernel stack, so that a recorder that hangs does not cut off the host.  The first
renewal after such a pause reports how many packets were passed.

Owner: the control thread alone; a worker would renew although the control thread hangs.
Frees: close().

Source relied on: kernel/bpf/arraymap.c, array_map_mmap(), for BPF_F_MMAPABLE.
"""

from __future__ import annotations

import mmap
import time

from xdpcap.errors import KernelError
from xdpcap.options.units import format_grouped
from xdpcap.programs.program import Program

# Several renewals per timeout, so that one late wake-up passes no packets.
RENEWALS_PER_TIMEOUT = 4


class DeadMan:
    """Renews the time stamp of one program; `queues` are the recorded queues.

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
        # One aligned word, stored atomically: the program reads it concurrently.
        self._renewal_times = memoryview(self._memory).cast("Q")

    def renew(self) -> str | None:
        """Renew the time stamp; returns a message when the last renewal is too long ago."""
        before, now = self._renewed_ns, time.monotonic_ns()
        self._renewal_times[0] = self._renewed_ns = now
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
        """Unmap the shared memory; safe to call again."""
        self._renewal_times.release()
        self._memory.close()
