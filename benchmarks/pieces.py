"""What the measurements of pieces have in common: their packets, groups and limits.

A group is measured together, and one of its rows is the limit: a memcpy() of the same
bytes.  `benchmarks.compare` relates every other row to it.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from xdpcap.savefile import headers

# So many packets a call: its microseconds are nanoseconds a packet.
PACKETS = 1000
FORMATS = ("pcapng", "pcap")
# What Workbench is made of (_bench.pyx).
AREA_BYTES, CHUNK_BYTES = 256 << 10, 2048
# The limit's row in every group; what stands behind SEPARATOR is for who reads the table.
LIMIT = "memcpy of the same bytes"
SEPARATOR = "; "
# Every ratio of a group stands on it, and memory is what other work disturbs most.
measured_longer = pytest.mark.benchmark(max_time=0.25)


def tell(
    benchmark: BenchmarkFixture, group: str, name: str, unit: str = "us a call are ns a packet"
) -> None:
    """Name a row of the table; the tests' own names are too long for it."""
    benchmark.group = f"{group}{SEPARATOR}{unit}"
    benchmark.name = name


def of_size(size: int) -> str:
    """The group of what is done with packets of `size` bytes."""
    return f"packets of {size} bytes"


def file_header(file_format: str) -> bytes:
    """What stands at the start of a file."""
    if file_format == "pcap":
        return headers.pcap_header(0)
    section = headers.section_header("", "", "benchmark")
    return section + headers.interface_block(snaplen=0, name="bench0")


def bench_frame(size: int, number: int) -> bytes:
    """The `number`-th packet (from 0) of a workbench."""
    chunks = -(-size // CHUNK_BYTES)
    first = number % (AREA_BYTES // (chunks * CHUNK_BYTES)) * chunks
    return b"".join(bytes([k % 251]) * CHUNK_BYTES for k in range(first, first + chunks))[:size]
