"""The recorder's parts on plain memory: encoding, the file sink, the savefile reader.

Each call handles a thousand packets, so that microseconds per call are nanoseconds per packet.
Run with `make bench`; without `--benchmark-enable` each piece runs once and is only checked.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.pieces import (
    FORMATS,
    LIMIT,
    PACKETS,
    bench_frame,
    file_header,
    measured_longer,
    name_row,
    of_size,
)
from xdpcap.bench.pieces import Workbench
from xdpcap.options.record import MEMORY_BLOCKS
from xdpcap.savefile.encode import RecordEncoder
from xdpcap.savefile.reader import read_packets
from xdpcap.savefile.sink import FileSink, choose_mode

SIZES = (64, 512, 1514, 9000)
SINK_SIZES = (64, 1514)
# Each call appends to the file: 158 MB in the end, at most.
SINK_CALLS = 100


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_thousand_packets_become_the_records_that_the_encoder_makes_one_by_one(
    benchmark: BenchmarkFixture, file_format: str, size: int
) -> None:
    name_row(benchmark, of_size(size), f"{file_format} records")
    workbench = Workbench(file_format, size)
    workbench.encode(PACKETS)
    encoder = RecordEncoder(file_format)
    for _ in range(PACKETS - 1):
        encoder.encode(b"", 0)
    expected = encoder.encode(bench_frame(size, PACKETS - 1), workbench.ts_ns)
    assert workbench.last_record == expected
    assert benchmark(workbench.encode, PACKETS) == PACKETS * len(expected)


@measured_longer
@pytest.mark.parametrize("size", SIZES)
def test_a_memcpy_moves_the_same_bytes_to_the_same_places(
    benchmark: BenchmarkFixture, size: int
) -> None:
    name_row(benchmark, of_size(size), LIMIT)
    workbench = Workbench("pcapng", size)
    workbench.copy(PACKETS)
    assert workbench.last_record[:size] == bench_frame(size, PACKETS - 1)
    benchmark(workbench.copy, PACKETS)


@pytest.mark.parametrize("size", SINK_SIZES)
@pytest.mark.parametrize("file_format", FORMATS)
def test_the_sink_puts_every_record_into_a_file_in_memory(
    benchmark: BenchmarkFixture, growing_file: Path, file_format: str, size: int
) -> None:
    name_row(benchmark, of_size(size), f"{file_format} records, into a file in memory")
    workbench = Workbench(file_format, size)
    fd = os.open(growing_file, os.O_CREAT | os.O_WRONLY)
    try:
        mode, direct_fd = choose_mode(fd)
        assert (mode, direct_fd) == ("sync", -1), "/dev/shm is no memory file system"
        sink = FileSink(*MEMORY_BLOCKS, mode)
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
    packets = list(read_packets(growing_file))
    assert finished.packets == len(packets) == len(packets) // PACKETS * PACKETS > 0
    assert packets[PACKETS - 1].data == bench_frame(size, PACKETS - 1)


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_reader_reads_a_thousand_packets_back(
    benchmark: BenchmarkFixture, memory_file: Path, file_format: str
) -> None:
    name_row(benchmark, of_size(64), f"{file_format} file, read in Python")
    encoder = RecordEncoder(file_format)
    frame = bench_frame(64, 0)
    records = b"".join(encoder.encode(frame, number) for number in range(PACKETS))
    memory_file.write_bytes(file_header(file_format) + records)

    def read() -> list[int | None]:
        return [packet.ts_ns for packet in read_packets(memory_file)]

    assert benchmark(read) == list(range(PACKETS))
