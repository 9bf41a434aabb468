"""Warm memory: pages that the host has already allocated, and that it does not take back.

On a virtual machine the first access to a page causes a fault in the host, which costs many
times as much as recording into the page, and with free page reporting (a balloon device) the
guest returns free memory within seconds.  A recorder that writes a file to a memory file system
would then mostly measure how fast the host allocates memory.  Free page reporting considers
free blocks from a certain order on: a whole page block (2 MiB), or a size that the host sets,
such as 128 KiB.  So: touch an area, then free all of it but one page in half such a block.  The
free blocks are then too small to be reported, and the kernel allocates small blocks first.

Source relied on: mm/page_reporting.c, mm/page_alloc.c (__rmqueue_smallest()).
"""

from __future__ import annotations

import mmap
from pathlib import Path

from benchmarks.machine import available_bytes
from xdpcap.errors import UsageError

REPORTING_ORDER = Path("/sys/module/page_reporting/parameters/page_reporting_order")
# Without this file nothing is reported; the default is a page block.
PAGE_BLOCK_ORDER = 9
CHUNK = 1 << 20
# The memory to leave for everything else.
SPARE_SHARE = 0.25


def grain_bytes() -> int:
    """The bytes of which one page is kept.

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
        # A huge page is freed only as a whole.
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
    """Warm the pages: write and delete a file of that size in a memory file system."""
    chunk = b"\1" * CHUNK
    path = directory / "touch"
    with path.open("wb", buffering=0) as file:
        path.unlink()
        for _ in range(-(-size_bytes // CHUNK)):
            file.write(chunk)
