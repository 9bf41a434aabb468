"""Describe the machine, and its activity during a measurement.

Source relied on: proc(5), /proc/stat and /proc/PID/stat; include/linux/sched.h for the
flag of kernel threads.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
KERNEL_THREAD = 0x00200000  # PF_KTHREAD
# The share of one CPU above which another process is listed.
OTHERS_SHARE = 0.05

# The command that prints each tool's version, in its first line.
_VERSIONS = {
    "tcpdump": ("tcpdump", "--version"),
    "dumpcap": ("dumpcap", "--version"),
    "netsniff-ng": ("netsniff-ng", "--version"),
    "fio": ("fio", "--version"),
    "tcpreplay": ("tcpreplay", "--version"),
}


@dataclass(frozen=True)
class Process:
    """One process at one moment; `cpu_s` is user and system time of all threads."""

    name: str
    cpu_s: float
    kernel: bool


@dataclass(frozen=True)
class Snapshot:
    """Counters of the whole machine at one moment, in seconds of CPU."""

    busy_s: float
    steal_s: float
    total_s: float
    load: float
    processes: dict[int, Process]


@dataclass(frozen=True)
class Activity:
    """The activity between two snapshots.

    `busy_s`: CPU time used on all CPUs; `steal`: share of the CPU time that the hypervisor
    took; `others`: processes beside those measured that used more than OTHERS_SHARE of a CPU,
    as name and share.
    """

    busy_s: float
    steal: float
    load: float
    others: tuple[tuple[str, float], ...] = field(default_factory=tuple)

    @property
    def others_share(self) -> float:
        """The CPU share of the other processes."""
        return sum(share for _, share in self.others)


def snapshot() -> Snapshot:
    """Take a snapshot, in about 2 ms with a hundred processes."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, words[:8])
    busy = user + nice + system + irq + softirq
    return Snapshot(
        busy_s=busy * TICK_S,
        steal_s=steal * TICK_S,
        total_s=(busy + idle + iowait + steal) * TICK_S,
        load=os.getloadavg()[0],
        processes=dict(_processes()),
    )


def activity(before: Snapshot, after: Snapshot, measured: Iterable[int]) -> Activity:
    """The activity between two snapshots; `measured` are the ids of the measured processes.

    Kernel threads are not listed as others: writeback and packet delivery are part of the
    measurement.
    """
    total_s = max(after.total_s - before.total_s, TICK_S)
    seconds = total_s / (os.cpu_count() or 1)
    ours = set(measured)
    others = []
    for pid, process in after.processes.items():
        if pid in ours or process.kernel:
            continue
        earlier = before.processes.get(pid)
        share = (process.cpu_s - (earlier.cpu_s if earlier else 0.0)) / seconds
        if share > OTHERS_SHARE:
            others.append((process.name, round(share, 3)))
    return Activity(
        busy_s=after.busy_s - before.busy_s,
        steal=(after.steal_s - before.steal_s) / total_s,
        load=after.load,
        others=tuple(sorted(others, key=lambda other: -other[1])),
    )


def describe() -> dict[str, Any]:
    """The machine and the tools, for the head of a report."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    os_release = platform.freedesktop_os_release()
    return {
        "cpu": _cpu_field(cpuinfo, "model name") or platform.machine(),
        "cpus": os.cpu_count(),
        "virtual": "hypervisor" in (_cpu_field(cpuinfo, "flags") or "").split(),
        "memory_bytes": int(memory[1]) * 1024 if memory else 0,
        "kernel": platform.release(),
        "os": os_release.get("PRETTY_NAME", "Linux"),
        "python": platform.python_version(),
        "tools": {name: _version(argv) for name, argv in _VERSIONS.items()},
    }


def available_bytes() -> int:
    """Memory available without swapping (MemAvailable)."""
    match = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(match[1]) * 1024 if match else 0


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`, as /proc/self/mounts names it."""
    device = os.stat(path).st_dev
    kind = "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        words = line.split()
        try:
            # The last mount on a directory is the visible one.
            if os.stat(words[1]).st_dev == device:
                kind = words[2]
        except OSError:
            continue
    return kind


def _processes() -> Iterable[tuple[int, Process]]:
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            text = Path(entry.path, "stat").read_text()
        except OSError:
            continue  # the process ended meanwhile
        # The name is in parentheses and may contain parentheses.
        name, _, rest = text.partition("(")[2].rpartition(") ")
        words = rest.split()
        cpu_s = (int(words[11]) + int(words[12])) * TICK_S
        yield int(entry.name), Process(name, cpu_s, bool(int(words[6]) & KERNEL_THREAD))


def _cpu_field(cpuinfo: str, name: str) -> str | None:
    match = re.search(rf"^{name}\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else None


def _version(argv: tuple[str, ...]) -> str | None:
    """The version that a tool prints; None when it is not installed."""
    if shutil.which(argv[0]) is None:
        return None
    out = subprocess.run(argv, capture_output=True, text=True, check=False)
    match = re.search(r"\d+(\.\d+)+", out.stdout + out.stderr)
    return match[0] if match else "of unknown version"
