"""The mappings of this process, and which of them a fork leaves out."""

from __future__ import annotations

import os
import re
from pathlib import Path

# What the kernel maps for AF_XDP, BPF ring buffers, perf rings and io_uring: proc(5)'s names.
KERNELS_OWN = ("socket:[", "anon_inode:bpf-map", "anon_inode:[perf_event]", "anon_inode:[io_uring]")

Bounds = str
Mappings = dict[Bounds, tuple[str, set[str]]]


def mappings() -> Mappings:
    """Name and flags (proc(5), VmFlags) of each mapping, by its addresses."""
    found: Mappings = {}
    at, name = "", ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if head := re.match(r"([0-9a-f]+-[0-9a-f]+) \S+ \S+ \S+ \S+ *(.*)", line):
            at, name = head[1], head[2]
        elif line.startswith("VmFlags:"):
            found[at] = name, set(line.split()[1:])
    return found


def new_since(before: Mappings) -> Mappings:
    """Those that were not there, of which a fork takes no copy or the kernel has the pages."""
    return {
        at: (name, flags)
        for at, (name, flags) in mappings().items()
        if at not in before and ("dc" in flags or name.startswith(KERNELS_OWN))
    }


def kernels_own(before: Mappings) -> Mappings:
    """Rings that were not there before."""
    return {at: it for at, it in new_since(before).items() if it[0].startswith(KERNELS_OWN)}


def assert_left_out_of_forks(before: Mappings) -> None:
    """Every ring and area made since is marked so, and a child does not have it."""
    made = new_since(before)
    assert made
    assert all("dc" in flags for _, flags in made.values()), made
    starts = {at.split("-")[0] for at in made}
    child = os.fork()
    if child == 0:
        os._exit(1 if starts & {at.split("-")[0] for at in mappings()} else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
