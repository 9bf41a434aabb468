"""Shared by the measurements of pieces: packets, groups and limits.

A group is measured together, and one of its rows is the limit: a memcpy() of the same
bytes.  `benchmarks.compare` divides the other rows by it.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from xdpcap.savefile import headers

# Packets per call: microseconds per call are nanoseconds per packet.
PACKETS = 1000
FORMATS = ("pcapng", "pcap")
# The sizes of the Workbench (bench/pieces.pyx).
AREA_BYTES, CHUNK_BYTES = 256 << 10, 2048
# The limit's row in every group; the text after SEPARATOR is for the reader of the table.
LIMIT = "memcpy of the same bytes"
SEPARATOR = "; "
# All ratios of a group depend on it, and other activity disturbs memory access most.
measured_longer = pytest.mark.benchmark(max_time=0.25)


def name_row(
    benchmark: BenchmarkFixture, group: str, name: str, unit: str = "us a call are ns a packet"
) -> None:
    """Name a row of the table; the tests' names are too long for that."""
    benchmark.group = f"{group}{SEPARATOR}{unit}"
    benchmark.name = name


def of_size(size: int) -> str:
    """The group of the pieces that process packets of `size` bytes."""
    return f"packets of {size} bytes"


def file_header(file_format: str) -> bytes:
    """The headers at the start of a file."""
    if file_format == "pcap":
        return headers.pcap_header(0)
    section = headers.section_header("", "", "benchmark")
    return section + headers.interface_block(snaplen=0, name="bench0")


def bench_frame(size: int, number: int) -> bytes:
    """The `number`-th packet (from 0) of a workbench."""
    chunks = -(-size // CHUNK_BYTES)
    first = number % (AREA_BYTES // (chunks * CHUNK_BYTES)) * chunks
    return b"".join(bytes([k % 251]) * CHUNK_BYTES for k in range(first, first + chunks))[:size]
