"""The rings and the frame pool on plain memory, with libxdp's own inline functions.

One thread drives both ends, so no cache line moves between cores: only the code is measured.
On a NIC or veth the cost of the other core's cache lines comes on top.  Each call moves a
million entries: microseconds per call are picoseconds per entry.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.pieces import LIMIT, measured_longer, name_row
from xdpcap.bench.pieces import Copier
from xdpcap.options.frame_sizes import chosen_frame
from xdpcap.options.record import RecordOptions
from xdpcap.rings.plain import PlainPool, PlainRing

OPTIONS = RecordOptions(("bench0",), output="nowhere")
FRAME_BYTES = chosen_frame(OPTIONS.frame_size)
ENTRIES, BATCH = OPTIONS.ring_size_for(FRAME_BYTES), OPTIONS.batch
MOVED = 1_000_000 // BATCH * BATCH
UNIT = "us a call are ps an entry"
ADDRESS_BYTES, DESCRIPTOR_BYTES = 8, 16
ADDRESSES, DESCRIPTORS = "addresses of 8 bytes", "descriptors of 16 bytes"
# Of the frame addresses 0, 1, 2, ...
SUM = FRAME_BYTES * (MOVED * (MOVED - 1) // 2)


def test_addresses_pass_through_a_ring_from_reserve_to_release(
    benchmark: BenchmarkFixture,
) -> None:
    name_row(benchmark, ADDRESSES, "ring: reserve, submit, peek, release", UNIT)
    ring = PlainRing(ENTRIES)
    assert benchmark(ring.carry_addresses, MOVED, BATCH) == SUM
    assert ring.entries == 0


def test_descriptors_pass_through_a_ring_from_reserve_to_release(
    benchmark: BenchmarkFixture,
) -> None:
    name_row(benchmark, DESCRIPTORS, "ring: reserve, submit, peek, release", UNIT)
    ring = PlainRing(ENTRIES)
    assert benchmark(ring.carry_descriptors, MOVED, BATCH) == SUM + MOVED * FRAME_BYTES
    assert ring.entries == 0


def test_frames_are_taken_from_the_pool_and_given_back(benchmark: BenchmarkFixture) -> None:
    name_row(benchmark, ADDRESSES, "frame pool: take, give", UNIT)
    pool = PlainPool(ENTRIES)
    for number in range(ENTRIES):
        pool.give(number * FRAME_BYTES)
    assert benchmark(pool.turn_over, MOVED, BATCH) == MOVED
    assert pool.free_count == ENTRIES


@measured_longer
@pytest.mark.parametrize(
    ("group", "width"), [(ADDRESSES, ADDRESS_BYTES), (DESCRIPTORS, DESCRIPTOR_BYTES)]
)
def test_a_memcpy_moves_as_many_bytes_in_the_same_portions(
    benchmark: BenchmarkFixture, group: str, width: int
) -> None:
    name_row(benchmark, group, LIMIT, UNIT)
    copier = Copier(ENTRIES * width)
    copier.copy(copier.size, BATCH * width)
    assert copier.copied == b"\xa5" * copier.size
    benchmark(copier.copy, MOVED * width, BATCH * width)
