"""Comparing what was sent with what arrived: each fault is named, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdpcap.replay.report import differs
from xdpcap.replay.verify import Arrived, Sent, compare, digest

GAP_NS = 1_000_000


def packet(number: int, size: int = 60) -> bytes:
    return number.to_bytes(4, "big") + bytes(size - 4)


def sent_row(numbers: Sequence[int], *, paced: bool = True) -> list[Sent]:
    return [
        Sent(digest(packet(n)), 60, place * GAP_NS if paced else None)
        for place, n in enumerate(numbers)
    ]


def arrived_row(numbers: Sequence[int], *, off_ns: int = 0) -> list[Arrived]:
    return [
        Arrived(digest(packet(n)), 60, 5_000_000_000 + place * (GAP_NS + off_ns))
        for place, n in enumerate(numbers)
    ]


def faults(result: dict[str, Any]) -> dict[str, int]:
    return {k: result[k] for k in ("missing", "extra", "changed", "reordered") if result[k]}


def test_the_same_packets_in_the_same_order_do_not_differ() -> None:
    result = compare([sent_row(range(100))], arrived_row(range(100)))
    assert faults(result) == {}
    assert not differs(result)
    assert (result["sent"], result["arrived"]) == (100, 100)


def test_a_packet_that_did_not_arrive_is_missing() -> None:
    result = compare([sent_row(range(10))], arrived_row([n for n in range(10) if n != 4]))
    assert faults(result) == {"missing": 1}
    assert differs(result)


def test_a_packet_that_nobody_sent_is_extra() -> None:
    stranger = Arrived(digest(packet(99, 80)), 80, 6_000_000_000)
    result = compare([sent_row(range(10))], [*arrived_row(range(10)), stranger])
    assert faults(result) == {"extra": 1}


def test_a_packet_that_arrived_twice_is_extra_once() -> None:
    result = compare([sent_row(range(4))], arrived_row([0, 1, 1, 2, 3]))
    assert faults(result) == {"extra": 1}


def test_other_bytes_of_the_same_length_are_a_changed_packet_and_nothing_else() -> None:
    result = compare([sent_row(range(10))], arrived_row([0, 1, 2, 777, 4, 5, 6, 7, 8, 9]))
    assert faults(result) == {"changed": 1}


def test_one_packet_that_came_late_is_one_reordered_packet() -> None:
    result = compare([sent_row(range(6))], arrived_row([1, 2, 3, 0, 4, 5]))
    assert faults(result) == {"reordered": 1}


def test_equal_packets_in_a_loop_are_not_taken_for_reordered() -> None:
    result = compare([sent_row([1, 2, 3] * 5)], arrived_row([1, 2, 3] * 5))
    assert faults(result) == {}


def test_two_senders_may_interleave_and_each_keeps_its_order() -> None:
    rows = [sent_row([0, 1, 2]), sent_row([10, 11, 12])]
    assert faults(compare(rows, arrived_row([0, 10, 11, 1, 12, 2]))) == {}
    assert faults(compare(rows, arrived_row([0, 11, 10, 1, 12, 2]))) == {"reordered": 1}


def test_the_gap_error_is_the_difference_to_the_due_gap() -> None:
    result = compare([sent_row(range(11))], arrived_row(range(11), off_ns=2500))
    assert result["gap_error"] == {
        "min_ns": 2500, "p50_ns": 2500, "p99_ns": 2500, "p99_9_ns": 2500, "max_ns": 2500,
    }  # fmt: skip


def test_at_top_speed_there_is_no_gap_to_compare() -> None:
    result = compare([sent_row(range(5), paced=False)], arrived_row(range(5)))
    assert result["gap_error"] is None


def test_nothing_sent_and_nothing_arrived_is_no_difference() -> None:
    assert not differs(compare([[]], []))
