"""What a process holds of the kernel, and whether a program or map is still there."""

from __future__ import annotations

import ctypes
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from timeouts import PATIENCE

_libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)

# Programs and maps are freed after a grace period, a socket's memory by a work item.
GONE_TIMEOUT_S = 5.0


def descriptors() -> list[str]:
    """What the process's descriptors refer to, sorted."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue  # the listing's own
    # Sockets and pipes carry numbers that never repeat; their kind is what counts.
    return sorted(re.sub(r":\[\d+\]", "", name) for name in found)


def held_ids(kind: str, pid: int | str = "self") -> set[int]:
    """The ids of the BPF programs ("prog"), maps ("map") or links ("link") held open."""
    ids = set()
    for number in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            text = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
        except FileNotFoundError:
            continue
        ids |= {int(found) for found in re.findall(rf"^{kind}_id:\s*(\d+)", text, re.M)}
    return ids


def exists(kind: str, number: int) -> bool:
    """Whether the kernel has a program ("prog"), map ("map") or link ("link") of this id."""
    fd = getattr(_libbpf, f"bpf_{kind}_get_fd_by_id")(number)
    if fd < 0:
        return False
    os.close(fd)
    return True


def still_there(kind: str, numbers: Iterable[int]) -> set[int]:
    """Those of the ids that the kernel still has after it had time to free them."""
    left = set(numbers)
    deadline = time.monotonic() + GONE_TIMEOUT_S * PATIENCE
    while left and time.monotonic() < deadline:
        left = {number for number in left if exists(kind, number)}
        if left:
            time.sleep(0.02)
    return left
