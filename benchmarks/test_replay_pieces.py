"""The steps of a replay before sending: read, edit, plan, divide.

Each call handles a thousand packets, so that microseconds per call are nanoseconds per packet.
The calls cycle through as many sets as fit 8 MiB, the size of a batch, so that packets do not
stay in the first-level cache.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.pieces import (
    FORMATS,
    LIMIT,
    PACKETS,
    file_header,
    measured_longer,
    name_row,
    of_size,
)
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.pieces import Copier
from xdpcap.packets.edit.rewrite import Rewriter
from xdpcap.packets.packet_set import PacketSet
from xdpcap.replay.batches import BATCH_BYTES
from xdpcap.replay.plan import Pacer, divide
from xdpcap.savefile.batch_reader import BatchReader
from xdpcap.savefile.encode import RecordEncoder

SIZES = (64, 1514)
ALIGN = 64  # of packets in a set (packets/packet_set.pyx)
ENTRY_BYTES = 32  # struct Entry (packets/packet_set.pxd)
ENTRIES = f"entries of a set, {ENTRY_BYTES} bytes each"
GAP_NS = 1000
QUEUES = 4
# Calls that each need a new object: a reader at the start of its file, a pacer.
CALLS = 50
# Two maps, so that the second call undoes the edits of the first.
MAPS = ("192.0.2.0/24:198.51.100.0/24", "198.51.100.0/24:192.0.2.0/24")
HEADERS_BYTES = 14 + 20 + 8
NEW_MAC = "02:00:00:00:00:99"


@cache
def frames(size: int) -> tuple[bytes, ...]:
    """A thousand packets of different flows."""
    return tuple(numbered_frame(size, number) for number in range(PACKETS))


def packet_set(size: int) -> PacketSet:
    packets = PacketSet()
    for number, frame in enumerate(frames(size)):
        packets.append(frame, ts_ns=number * GAP_NS)
    return packets


def round_and_round(size: int, make: Callable[[], PacketSet]) -> Iterator[PacketSet]:
    """Cycle endlessly through sets of a thousand packets of that size."""
    count = max(1, BATCH_BYTES // (PACKETS * -(-size // ALIGN) * ALIGN))
    return itertools.cycle([make() for _ in range(count)])


def capture(path: Path, file_format: str, size: int) -> None:
    encoder = RecordEncoder(file_format)
    records = (encoder.encode(frame, n * GAP_NS) for n, frame in enumerate(frames(size)))
    path.write_bytes(file_header(file_format) + b"".join(records))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_thousand_packets_are_read_into_a_set(
    benchmark: BenchmarkFixture, memory_file: Path, file_format: str, size: int
) -> None:
    name_row(benchmark, of_size(size), f"{file_format} file, read into a set")
    capture(memory_file, file_format, size)
    # Filled once, so that their memory is allocated.
    sets = round_and_round(size, lambda: packet_set(size))
    last = PacketSet()

    def opened() -> tuple[tuple[BatchReader, PacketSet], dict[str, object]]:
        nonlocal last
        last = next(sets)
        last.clear()
        fd = os.open(memory_file, os.O_RDONLY)
        return (BatchReader(fd, "bench", longest=size), last), {}

    def read(reader: BatchReader, packets: PacketSet) -> None:
        reader.read(packets, max_packets=PACKETS)

    benchmark.pedantic(read, setup=opened, rounds=CALLS)
    assert [packet[:2] for packet in last] == [
        (number * GAP_NS, frame) for number, frame in enumerate(frames(size))
    ]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "rules", "places"),
    [
        ("MAC addresses", {"dst_mac": NEW_MAC, "src_mac": NEW_MAC}, slice(0, 12)),
        ("mapped addresses", {"map_ip": MAPS}, slice(26, 34)),
        ("random addresses", {"seed": 20}, slice(26, 34)),
    ],
    ids=["macs", "map", "seed"],
)
def test_a_thousand_packets_are_edited(
    benchmark: BenchmarkFixture, name: str, rules: dict[str, object], places: slice, size: int
) -> None:
    name_row(benchmark, of_size(size), f"rewriting: {name}")
    packets = packet_set(size)
    rewriter = Rewriter(**rules)
    rewriter.apply(packets)
    for (_, data, _, _), frame in zip(packets, frames(size), strict=True):
        assert data[places] != frame[places]
        assert data[HEADERS_BYTES:] == frame[HEADERS_BYTES:]
    sets = round_and_round(size, lambda: packet_set(size))
    benchmark(lambda: rewriter.apply(next(sets)))


@pytest.mark.parametrize("kind", ["recorded", "mbps"])
def test_a_thousand_packets_get_their_due_times(benchmark: BenchmarkFixture, kind: str) -> None:
    name_row(benchmark, ENTRIES, f"plan: {kind}")
    sets = round_and_round(64, lambda: packet_set(64))
    # A pacer plans one replay: times that go back would measure something else.
    plan = benchmark.pedantic(
        Pacer.plan, setup=lambda: ((Pacer(kind), next(sets)), {}), rounds=20 * CALLS
    )
    # At 1 Mb/s: 64 bytes, FCS, preamble and gap (IEEE 802.3).
    gap_ns = GAP_NS if kind == "recorded" else (64 + 4 + 20) * 8 * 1000
    assert list(plan) == [number * gap_ns for number in range(PACKETS)]


def test_a_thousand_packets_are_divided_among_queues(benchmark: BenchmarkFixture) -> None:
    name_row(benchmark, ENTRIES, f"divide: {QUEUES} queues")
    sets = round_and_round(64, lambda: packet_set(64))
    orders = benchmark(lambda: divide(next(sets), QUEUES))
    assert sorted(itertools.chain(*orders)) == list(range(PACKETS))
    assert all(len(order) > PACKETS // QUEUES // 2 for order in orders)


@measured_longer
def test_a_memcpy_moves_as_many_bytes_as_the_entries_have(benchmark: BenchmarkFixture) -> None:
    name_row(benchmark, ENTRIES, LIMIT)
    # As many entries as the calls above process.
    portion = PACKETS * ENTRY_BYTES
    size = BATCH_BYTES // (PACKETS * ALIGN) * portion
    copier = Copier(size)
    copier.copy(size, portion)
    assert copier.copied == b"\xa5" * size
    benchmark(copier.copy, portion, portion)
