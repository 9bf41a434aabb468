"""Warm memory: pages that the host has given already, and that it does not take back.

On a virtual machine a page that was never touched costs a fault in the host, which is
many times the price of recording into it, and with free page reporting (a balloon
device) the guest hands free memory back within seconds.  A recorder that writes a file
to a memory file system would then be measured mostly by the host's speed at giving
memory.  Free page reporting looks at free blocks of a certain order and above, a whole
page block (2 MiB) or what the host asks for, such as 128 KiB.  So: touch an area, then
give back all of it but one page in half such a block.  What is free then stays in pieces
too small to be reported, and the kernel takes small pieces first.

Source relied on: mm/page_reporting.c, mm/page_alloc.c (__rmqueue_smallest()).
"""

from __future__ import annotations

import mmap
from pathlib import Path

from benchmarks.machine import available_bytes
from xdpcap.errors import UsageError

REPORTING_ORDER = Path("/sys/module/page_reporting/parameters/page_reporting_order")
# Without that file nothing is reported; a page block is what it is without an answer.
PAGE_BLOCK_ORDER = 9
CHUNK = 1 << 20
# What stays for everything else when the area is chosen.
SPARE_SHARE = 0.25


def grain_bytes() -> int:
    """One page is kept in so many bytes.

    Half of the smallest block that is reported, since an area need not be aligned.
    """
    try:
        order = int(REPORTING_ORDER.read_text())
    except (OSError, ValueError):
        order = PAGE_BLOCK_ORDER
    # 0 or less, or more than there is, stands for a page block (page_reporting_register()).
    if not 0 < order <= PAGE_BLOCK_ORDER:
        order = PAGE_BLOCK_ORDER
    return max(mmap.PAGESIZE << (order - 1), 2 * mmap.PAGESIZE)


class WarmMemory:
    """`size_bytes` of free memory kept warm; a context manager.

    Raises UsageError when the machine has not enough.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = -(-size_bytes // CHUNK) * CHUNK
        self._area: mmap.mmap | None = None

    def __enter__(self) -> WarmMemory:
        available = available_bytes()
        if self.size_bytes > available * (1 - SPARE_SHARE):
            raise UsageError(
                f"files of up to {self.size_bytes >> 20} MiB do not fit into the "
                f"{available >> 20} MiB of memory that are free; lower --count"
            )
        area = mmap.mmap(-1, self.size_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # A huge page would be given back only as a whole.
        area.madvise(mmap.MADV_NOHUGEPAGE)
        chunk = b"\1" * CHUNK
        for start in range(0, self.size_bytes, CHUNK):
            area[start : start + CHUNK] = chunk
        grain = grain_bytes()
        for start in range(0, self.size_bytes, grain):
            area.madvise(mmap.MADV_DONTNEED, start + mmap.PAGESIZE, grain - mmap.PAGESIZE)
        self._area = area
        return self

    def __exit__(self, *exc: object) -> None:
        if self._area is not None:
            self._area.close()
            self._area = None


def touch(directory: Path, size_bytes: int) -> None:
    """Write and delete a file of that size in a memory file system: its pages are warm then."""
    chunk = b"\1" * CHUNK
    path = directory / "touch"
    with path.open("wb", buffering=0) as file:
        path.unlink()
        for _ in range(-(-size_bytes // CHUNK)):
            file.write(chunk)
