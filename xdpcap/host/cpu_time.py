"""CPU time of a thread and of the whole machine.

Source relied on: proc(5), /proc/stat; pthread_getcpuclockid(3).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def thread_cpu_s(ident: int) -> float:
    """User and system time of a running Python thread (`threading.Thread.ident`)."""
    return time.clock_gettime(time.pthread_getcpuclockid(ident))


def machine_busy_s() -> float:
    """CPU time of everything on all CPUs, interrupts included; in ticks of 10 ms."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq = map(int, words[:7])
    return (user + nice + system + irq + softirq) * TICK_S
