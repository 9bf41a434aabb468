"""What a replay does with packets before it sends them: read, edit, plan, divide.

A thousand packets a call, so that its microseconds are nanoseconds a packet.  The calls
go round through as many sets as 8 MiB hold, a batch of the feed, so that packets do not
stay in the nearest cache.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.pieces import FORMATS, LIMIT, PACKETS, file_header, measured_longer, of_size, tell
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.pieces import Copier
from xdpcap.packets.edit.rewrite import Rewriter
from xdpcap.packets.packet_set import PacketSet
from xdpcap.replay.batches import BATCH_BYTES
from xdpcap.replay.plan import Pacer, divide
from xdpcap.savefile.batch_reader import BatchReader
from xdpcap.savefile.encode import RecordEncoder

SIZES = (64, 1514)
ALIGN = 64  # of packets in a set (_packets.pyx)
ENTRY_BYTES = 32  # struct Entry (_packets.pxd)
ENTRIES = f"entries of a set, {ENTRY_BYTES} bytes each"
GAP_NS = 1000
QUEUES = 4
# Calls that each need something made anew: a reader that stands at the start, a pacer.
CALLS = 50
# Two maps, so that the second call finds what the first has left and edits it back.
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
    """Sets of a thousand packets of that size, one after the other, for ever."""
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
    tell(benchmark, of_size(size), f"{file_format} file, read into a set")
    capture(memory_file, file_format, size)
    # Filled once: their memory is there.
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
    tell(benchmark, of_size(size), f"rewriting: {name}")
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
    tell(benchmark, ENTRIES, f"plan: {kind}")
    sets = round_and_round(64, lambda: packet_set(64))
    # One pacer plans one replay: times that go back would be another piece.
    plan = benchmark.pedantic(
        Pacer.plan, setup=lambda: ((Pacer(kind), next(sets)), {}), rounds=20 * CALLS
    )
    # At 1 Mb/s: 64 bytes, FCS, preamble and gap (IEEE 802.3).
    gap_ns = GAP_NS if kind == "recorded" else (64 + 4 + 20) * 8 * 1000
    assert list(plan) == [number * gap_ns for number in range(PACKETS)]


def test_a_thousand_packets_are_divided_among_queues(benchmark: BenchmarkFixture) -> None:
    tell(benchmark, ENTRIES, f"divide: {QUEUES} queues")
    sets = round_and_round(64, lambda: packet_set(64))
    orders = benchmark(lambda: divide(next(sets), QUEUES))
    assert sorted(itertools.chain(*orders)) == list(range(PACKETS))
    assert all(len(order) > PACKETS // QUEUES // 2 for order in orders)


@measured_longer
def test_a_memcpy_moves_as_many_bytes_as_the_entries_have(benchmark: BenchmarkFixture) -> None:
    tell(benchmark, ENTRIES, LIMIT)
    # As many entries as the calls above go through.
    portion = PACKETS * ENTRY_BYTES
    size = BATCH_BYTES // (PACKETS * ALIGN) * portion
    copier = Copier(size)
    copier.copy(size, portion)
    assert copier.copied == b"\xa5" * size
    benchmark(copier.copy, portion, portion)
