"""The recorder's parts on plain memory: encoding, the file sink, the savefile reader.

Each call handles a thousand packets, so that microseconds a call are nanoseconds a
packet.  Run with `make bench`; without `--benchmark-enable` each piece runs once and
is only checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from xdpcap._bench import Workbench
from xdpcap._savefile import RecordEncoder
from xdpcap._sink import FileSink, choose_mode

from benchmarks.memory import WarmMemory, touch
from xdpcap.savefile import headers
from xdpcap.savefile.reader import read_packets

PACKETS = 1000
SIZES = (64, 512, 1514, 9000)
SINK_SIZES = (64, 1514)
FORMATS = ("pcapng", "pcap")
# The recorder's own defaults (RecordConfig).
BLOCK_BYTES, BLOCKS = 1 << 20, 8
# Each call makes the file longer: 158 MB in the end, at most.
SINK_CALLS = 100
WARM_BYTES = 512 << 20
# What Workbench is made of (_bench.pyx).
AREA_BYTES, CHUNK_BYTES = 8 << 20, 2048


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


def tell(benchmark: BenchmarkFixture, group: str, name: str) -> None:
    """Name a row of the table; the tests' own names are too long for it."""
    benchmark.group = f"{group}; us a call are ns a packet"
    benchmark.name = name


@pytest.fixture(scope="module")
def warm_memory() -> Iterator[None]:
    """Memory whose price is not the host's; see `benchmarks.memory`."""
    with WarmMemory(WARM_BYTES):
        yield


@pytest.fixture
def memory_file(warm_memory: None) -> Iterator[Path]:
    """A path in a memory file system; what is there is removed afterwards."""
    path = Path("/dev/shm") / f"xdpcap-bench-{os.getpid()}"
    touch(path.parent, WARM_BYTES // 2)
    yield path
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_thousand_packets_become_the_records_that_the_encoder_makes_one_by_one(
    benchmark: BenchmarkFixture, file_format: str, size: int
) -> None:
    tell(benchmark, f"packets of {size} bytes", f"{file_format} records")
    workbench = Workbench(file_format, size)
    workbench.encode(PACKETS)
    encoder = RecordEncoder(file_format)
    for _ in range(PACKETS - 1):
        encoder.encode(b"", 0)
    expected = encoder.encode(bench_frame(size, PACKETS - 1), workbench.ts_ns)
    assert workbench.last_record == expected
    assert benchmark(workbench.encode, PACKETS) == PACKETS * len(expected)


@pytest.mark.parametrize("size", SIZES)
def test_a_memcpy_moves_the_same_bytes_to_the_same_places(
    benchmark: BenchmarkFixture, size: int
) -> None:
    tell(benchmark, f"packets of {size} bytes", "memcpy of the same bytes")
    workbench = Workbench("pcapng", size)
    workbench.copy(PACKETS)
    assert workbench.last_record[:size] == bench_frame(size, PACKETS - 1)
    benchmark(workbench.copy, PACKETS)


@pytest.mark.parametrize("size", SINK_SIZES)
@pytest.mark.parametrize("file_format", FORMATS)
def test_the_sink_puts_every_record_into_a_file_in_memory(
    benchmark: BenchmarkFixture, memory_file: Path, file_format: str, size: int
) -> None:
    tell(benchmark, f"packets of {size} bytes", f"{file_format} records, into a file in memory")
    workbench = Workbench(file_format, size)
    fd = os.open(memory_file, os.O_CREAT | os.O_WRONLY)
    try:
        mode, direct_fd = choose_mode(fd)
        assert (mode, direct_fd) == ("sync", -1), "/dev/shm is no memory file system"
        sink = FileSink(BLOCK_BYTES, BLOCKS, mode)
        sink.open_file(fd, direct_fd, file_header(file_format))

        def record_and_flush() -> None:
            workbench.record(sink, PACKETS)
            sink.flush()

        benchmark.pedantic(record_and_flush, rounds=SINK_CALLS)
        sink.finish_file()
        (finished,) = sink.collect()
        sink.close()
    finally:
        os.close(fd)
    packets = list(read_packets(memory_file))
    assert finished.packets == len(packets) == len(packets) // PACKETS * PACKETS > 0
    assert packets[PACKETS - 1].data == bench_frame(size, PACKETS - 1)


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_reader_reads_a_thousand_packets_back(
    benchmark: BenchmarkFixture, memory_file: Path, file_format: str
) -> None:
    tell(benchmark, "packets of 64 bytes, read back in Python", f"{file_format} reader")
    encoder = RecordEncoder(file_format)
    frame = bench_frame(64, 0)
    records = b"".join(encoder.encode(frame, number) for number in range(PACKETS))
    memory_file.write_bytes(file_header(file_format) + records)

    def read() -> list[int | None]:
        return [packet.ts_ns for packet in read_packets(memory_file)]

    assert benchmark(read) == list(range(PACKETS))
