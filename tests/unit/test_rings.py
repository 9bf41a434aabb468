"""The ring functions that the recorder calls, on plain memory, and the frame pool."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpcap.rings.plain import PlainPool, PlainRing

SIZE = 8
U32 = 1 << 32
# An empty ring whose indices wrap after five more entries.
BEFORE_WRAP = U32 - 5


@pytest.fixture(params=[0, 3, BEFORE_WRAP, U32 - SIZE, U32 - 1], ids=hex)
def ring(request):
    """An empty ring of eight, with the indices at several places of their 32 bits."""
    return PlainRing(SIZE, request.param)


def produce(ring: PlainRing, addrs: list[int]) -> int | None:
    """Reserve, write and submit them all, as the recorder gives frames back."""
    index = ring.reserve(len(addrs))
    if index is not None:
        for place, addr in enumerate(addrs):
            ring.put((index + place) % U32, addr)
        ring.submit(len(addrs))
    return index


def consume(ring: PlainRing, count: int) -> list[int]:
    """Peek, read and release, as the recorder takes packets."""
    index, found = ring.peek(count)
    addrs = [ring.get((index + place) % U32) for place in range(found)]
    if found:
        ring.release(found)
    return addrs


# --- producing


def test_an_empty_ring_has_room_for_exactly_its_size(ring):
    assert produce(ring, list(range(100, 108))) is not None
    assert ring.entries == SIZE
    assert ring.reserve(1) is None


def test_producing_more_than_ring_size_reserves_nothing(ring):
    before = ring.indices
    assert ring.reserve(SIZE + 1) is None
    assert (ring.entries, ring.indices) == (0, before)
    # Nothing was half taken: the whole ring can still be had.
    assert ring.reserve(SIZE) == before[0]


def test_a_reservation_larger_than_what_is_left_reserves_nothing_and_a_smaller_one_fits(ring):
    produce(ring, [1, 2, 3, 4, 5])
    assert ring.reserve(4) is None
    assert produce(ring, [6, 7, 8]) is not None
    assert consume(ring, SIZE) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_what_is_reserved_is_not_seen_before_it_is_submitted(ring):
    index = ring.reserve(2)
    ring.put(index, 11)
    ring.put((index + 1) % U32, 12)
    assert ring.peek(SIZE)[1] == 0
    ring.submit(1)
    assert consume(ring, SIZE) == [11]
    ring.submit(1)
    assert consume(ring, SIZE) == [12]


def test_released_entries_are_room_again_and_only_they(ring):
    produce(ring, list(range(SIZE)))
    assert consume(ring, 3) == [0, 1, 2]
    assert ring.reserve(4) is None
    assert produce(ring, [20, 21, 22]) is not None
    assert ring.reserve(1) is None
    assert consume(ring, SIZE) + consume(ring, SIZE) == [3, 4, 5, 6, 7, 20, 21, 22]


def test_a_peeked_entry_is_no_room_until_it_is_released(ring):
    produce(ring, list(range(SIZE)))
    assert ring.peek(SIZE)[1] == SIZE
    assert ring.reserve(1) is None
    ring.release(1)
    assert ring.reserve(1) is not None


# --- consuming


def test_an_empty_ring_yields_nothing_and_its_indices_stay(ring):
    before = ring.indices
    assert ring.peek(SIZE)[1] == 0
    assert ring.indices == before


def test_a_peek_takes_no_more_than_asked_and_the_next_goes_on_after_it(ring):
    produce(ring, [1, 2, 3])
    first, found = ring.peek(2)
    assert (found, ring.get(first)) == (2, 1)
    second, found = ring.peek(2)
    assert (found, second, ring.get(second)) == (1, (first + 2) % U32, 3)


def test_cancelled_entries_are_peeked_again_in_the_same_order(ring):
    produce(ring, [1, 2, 3, 4])
    first, _ = ring.peek(4)
    ring.cancel(3)
    ring.release(1)
    again, found = ring.peek(SIZE)
    assert (again, found) == ((first + 1) % U32, 3)
    assert [ring.get((again + place) % U32) for place in range(3)] == [2, 3, 4]


def test_what_was_submitted_after_a_peek_comes_once_the_first_is_used_up(ring):
    """The consumer looks at the shared index only when its own copy says empty."""
    produce(ring, [1, 2])
    assert consume(ring, 1) == [1]
    produce(ring, [3])
    assert consume(ring, SIZE) == [2]
    assert consume(ring, SIZE) == [3]


# --- wrapping


def test_an_index_wraps_at_32_bits_and_the_slots_go_on():
    ring = PlainRing(SIZE, BEFORE_WRAP)
    assert produce(ring, list(range(SIZE))) == BEFORE_WRAP
    assert ring.indices == (SIZE - 5, BEFORE_WRAP)
    assert ring.entries == SIZE
    assert ring.peek(SIZE) == (BEFORE_WRAP, SIZE)
    assert [ring.get((BEFORE_WRAP + place) % U32) for place in range(SIZE)] == list(range(SIZE))
    ring.release(SIZE)
    assert ring.indices == (SIZE - 5, SIZE - 5)


def test_a_ring_that_is_full_across_the_wrap_is_not_mistaken_for_an_empty_one():
    ring = PlainRing(SIZE, U32 - 1)
    produce(ring, list(range(SIZE)))
    assert ring.reserve(1) is None
    assert ring.peek(1)[1] == 1


def test_a_cancel_across_the_wrap_goes_back_over_it():
    ring = PlainRing(SIZE, U32 - 1)
    produce(ring, [7, 8, 9])
    assert ring.peek(3) == (U32 - 1, 3)
    ring.cancel(3)
    assert ring.peek(1) == (U32 - 1, 1)
    assert ring.peek(1) == (0, 1)


def test_many_times_the_ring_passes_through_it_over_the_wrap_in_order():
    ring = PlainRing(SIZE, U32 - 1000)
    sent, got = 0, []
    while sent < 3000:
        if produce(ring, [sent, sent + 1, sent + 2]) is not None:
            sent += 3
        else:
            got += consume(ring, 5)
    while ring.entries:
        got += consume(ring, 5)
    assert got == list(range(3000))


steps = st.lists(
    st.tuples(st.sampled_from(["produce", "consume", "cancel"]), st.integers(1, SIZE + 2)),
    max_size=80,
)


@given(steps, st.sampled_from([0, U32 - 20, U32 - SIZE, U32 - 1]))
def test_a_ring_behaves_as_a_bounded_queue_whatever_is_done_to_it(actions, start):
    ring, model, next_addr = PlainRing(SIZE, start), deque(), 0
    for action, count in actions:
        if action == "produce":
            addrs = list(range(next_addr, next_addr + count))
            fits = len(model) + count <= SIZE
            assert (produce(ring, addrs) is not None) == fits
            if fits:
                model.extend(addrs)
                next_addr += count
        elif action == "consume":
            got = consume(ring, count)
            assert bool(got) == bool(model) and len(got) <= count
            assert got == [model.popleft() for _ in got]
        else:
            found = ring.peek(count)[1]
            ring.cancel(found)
        assert ring.entries == len(model)


def test_the_wakeup_flag_is_read_from_the_shared_word(ring):
    assert not ring.needs_wakeup
    ring.needs_wakeup = True
    assert ring.needs_wakeup


@pytest.mark.parametrize("size", [0, 3, 7, 12])
def test_a_ring_whose_size_is_no_power_of_two_is_refused(size):
    with pytest.raises(ValueError, match=f"ring size {size} is not a power of two"):
        PlainRing(size)


# --- many at once, as the benchmarks do


@pytest.mark.parametrize("batch", [1, 3, SIZE])
def test_entries_carried_in_batches_all_arrive_and_leave_the_ring_empty(ring, batch):
    start, sum_of_addrs = ring.indices[0], sum(2048 * number for number in range(24))
    assert ring.carry_addresses(24, batch) == sum_of_addrs
    assert ring.indices == ((start + 24) % U32,) * 2
    assert ring.carry_descriptors(24, batch) == sum_of_addrs + 24 * 2048
    assert ring.indices == ((start + 48) % U32,) * 2
    assert produce(ring, [1, 2, 3]) is not None
    assert consume(ring, SIZE) == [1, 2, 3]


@pytest.mark.parametrize(("count", "batch"), [(8, 0), (18, 9), (7, 2)])
def test_only_whole_batches_that_fit_the_ring_are_carried(ring, count, batch):
    for carry in (ring.carry_addresses, ring.carry_descriptors):
        with pytest.raises(ValueError, match=f"{count} in portions of {batch}"):
            carry(count, batch)


def test_nothing_is_carried_through_a_ring_that_is_in_use(ring):
    index = ring.reserve(1)
    with pytest.raises(ValueError, match="not empty"):
        ring.carry_addresses(8, 8)
    ring.put(index, 1)
    ring.submit(1)
    with pytest.raises(ValueError, match="not empty"):
        ring.carry_descriptors(8, 8)
    ring.peek(1)
    with pytest.raises(ValueError, match="not empty"):
        ring.carry_addresses(8, 8)
    ring.release(1)
    assert ring.carry_addresses(8, 8) == 2048 * 28


# --- the frame pool


def test_an_empty_pool_gives_no_frame():
    pool = PlainPool(2)
    assert (pool.take(), pool.free_count) == (None, 0)


def test_the_frame_given_back_last_is_taken_first():
    pool = PlainPool(3)
    for addr in (0, 2048, 4096):
        pool.give(addr)
    assert [pool.take() for _ in range(4)] == [4096, 2048, 0, None]


def test_a_pool_holds_all_its_frames_and_no_more():
    pool = PlainPool(2)
    pool.give(0)
    pool.give(2048)
    assert pool.free_count == 2
    with pytest.raises(ValueError, match="has all its frames"):
        pool.give(4096)
    assert pool.free_count == 2


def test_frames_turned_over_are_all_in_the_pool_again_and_a_short_pool_gives_what_it_has():
    pool = PlainPool(4)
    for addr in (0, 2048, 4096):
        pool.give(addr)
    assert pool.turn_over(30, 3) == 30
    assert pool.turn_over(8, 4) == 3
    assert pool.free_count == 3
    assert {pool.take() for _ in range(3)} == {0, 2048, 4096}
    with pytest.raises(ValueError, match="10 in portions of 5"):
        pool.turn_over(10, 5)


@given(st.lists(st.booleans(), max_size=60))
def test_no_frame_is_ever_handed_out_twice_or_lost(takes):
    pool, out = PlainPool(5), []
    for addr in range(5):
        pool.give(addr * 2048)
    for take in takes:
        if take:
            addr = pool.take()
            if addr is None:
                assert len(out) == 5
            else:
                assert addr not in out
                out.append(addr)
        elif out:
            pool.give(out.pop(0))
        assert pool.free_count + len(out) == 5
