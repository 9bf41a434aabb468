"""Which kernel this is, and what it can do.

A leaf: no state, nothing opened for longer than a question. Features are told by version, from the
release that first had them; a distribution that has backported one is taken for what its version
says, and works without it.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import socket
from pathlib import Path

from xdpcap.errors import KernelError, UsageError

Version = tuple[int, int]

AF_XDP = 44
MINIMUM: Version = (4, 18)


def version() -> Version:
    """The running kernel's version as (major, minor), from uname(2)."""
    return parse(os.uname().release)


def parse(release: str) -> Version:
    """(6, 1) from "6.1.0-18-amd64"; (0, 0) from what begins with no version."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def require(minimum: Version, what: str) -> None:
    """Raise `UsageError`, naming the kernel found, unless it is `minimum` or later.

    `what` is the thing that needs it, as the subject of a sentence ("--busy-poll").
    """
    if version() < minimum:
        raise UsageError(
            f"{what} needs Linux {minimum[0]}.{minimum[1]} or later and this is "
            f"{os.uname().release}; boot a newer kernel or leave it out"
        )


def require_af_xdp() -> None:
    """Raise `UsageError` unless this kernel has AF_XDP: too old, or built without it."""
    if version() < MINIMUM:
        raise UsageError(
            f"xdpcap needs Linux {MINIMUM[0]}.{MINIMUM[1]} or later (AF_XDP) and this is "
            f"{os.uname().release}; boot a newer kernel"
        )
    if not af_xdp_available():
        raise UsageError(
            f"no AF_XDP sockets: kernel {os.uname().release} was built without "
            "CONFIG_XDP_SOCKETS; boot one that has it"
        )


def af_xdp_available() -> bool:
    """Whether the kernel makes AF_XDP sockets, found by trying; no privilege is needed to ask."""
    try:
        socket.socket(AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0).close()
    except OSError as exc:
        if exc.errno == errno.EAFNOSUPPORT:
            return False
        if exc.errno == errno.EPERM:  # xsk_create() asks for CAP_NET_RAW: so it is there
            return True
        raise KernelError("socket(AF_XDP)", exc.errno or 0) from exc
    return True


def cpu_ids() -> int:
    """One more than the highest number that a CPU of this machine can have (nr_cpu_ids)."""
    return _possible_cpus()[-1] + 1


def possible_cpu_count() -> int:
    """How many CPUs this machine can have: a per-CPU map holds a value for each of them."""
    return len(_possible_cpus())


@functools.cache
def _possible_cpus() -> list[int]:
    # Ranges and numbers, "0-3,8": Documentation/ABI/testing/sysfs-devices-system-cpu.
    listed = Path("/sys/devices/system/cpu/possible").read_text().strip().split(",")
    ranges = (part.partition("-") for part in listed)
    return [cpu for low, _, high in ranges for cpu in range(int(low), int(high or low) + 1)]


def has_redirect_flags() -> bool:
    """bpf_redirect_map() falls back to the action in its flags (XDP_PASS for an empty slot)."""
    return version() >= (5, 3)


def has_global_data() -> bool:
    """Programs with constants that user space sets (.rodata), as all builds since 5.3 have."""
    return has_redirect_flags()


def has_need_wakeup() -> bool:
    """XDP_USE_NEED_WAKEUP, and chunks that are not aligned."""
    return version() >= (5, 4)


def has_split_capabilities() -> bool:
    """CAP_BPF and CAP_PERFMON, carved out of CAP_SYS_ADMIN."""
    return version() >= (5, 8)


def has_bpf_link() -> bool:
    """XDP programs attached through a bpf_link; XDP_STATISTICS with ring_full and fill_empty."""
    return version() >= (5, 9)


def has_busy_poll() -> bool:
    """SO_PREFER_BUSY_POLL."""
    return version() >= (5, 11)


def has_cgroup_memory_accounting() -> bool:
    """BPF maps and programs are charged to the memory cgroup and not to RLIMIT_MEMLOCK."""
    return version() >= (5, 11)


def has_tai() -> bool:
    """bpf_ktime_get_tai_ns()."""
    return version() >= (6, 1)


def has_xdp_features() -> bool:
    """Drivers say what they have (netdev dev-get), and the kernel refuses what they do not say."""
    return version() >= (6, 3)


def has_load_bytes() -> bool:
    """bpf_xdp_load_bytes(), and programs for packets of several buffers (xdp.frags)."""
    return version() >= (5, 18)


def has_multi_buffer() -> bool:
    """XDP_USE_SG: a packet in several frames on an AF_XDP socket."""
    return version() >= (6, 6)


def has_launch_time() -> bool:
    """XDP_TXMD_FLAGS_LAUNCH_TIME: a packet of an AF_XDP socket may have a time to leave at."""
    return version() >= (6, 15)
