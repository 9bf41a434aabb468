"""The ledger's arithmetic: what is left over, sums, and rows of one queue put together."""

from __future__ import annotations

from xdpcap.record.ledger import QueueAccount, merged, reported_total, total


def row(queue: int = 0, **counts: int) -> QueueAccount:
    return QueueAccount("eth0", queue, **counts)  # type: ignore[arg-type]


def test_what_is_on_its_way_is_in_flight_while_recording_and_unaccounted_at_the_end():
    live = row(redirected=100, written=80, rx_dropped=5, rx_ring_full=1).settle(final=False)
    assert (live.in_flight, live.unaccounted) == (14, 0)
    last = row(redirected=100, written=80, rx_dropped=5, rx_ring_full=1).settle(final=True)
    assert (last.in_flight, last.unaccounted) == (0, 14)


def test_a_packet_that_was_counted_twice_shows_at_once_and_never_as_in_flight():
    for final in (False, True):
        twice = row(redirected=10, written=10, rx_dropped=1).settle(final=final)
        assert (twice.in_flight, twice.unaccounted) == (0, -1)


def test_how_often_the_fill_ring_was_found_empty_is_no_packet():
    kept = row(redirected=10, written=7, rx_dropped=3, fill_ring_empty=1000).settle(final=True)
    assert kept.unaccounted == 0


def test_what_is_written_dropped_or_beyond_the_limit_is_accounted_for():
    kept = row(redirected=10, passed=2, dropped=1, written=4, write_dropped=3, beyond_limit=3)
    assert kept.settle(final=True).unaccounted == 0
    assert kept.seen == 13


def test_a_total_adds_every_count_and_keeps_the_labels_that_all_share():
    rows = [row(0, written=1, zero_copy=True), row(1, written=2, zero_copy=True)]
    rows[0].attach_mode = rows[1].attach_mode = "native"
    summary = total(rows)
    assert (summary.written, summary.zero_copy, summary.attach_mode) == (3, True, "native")
    rows[1].attach_mode, rows[1].zero_copy = "generic", False
    assert (total(rows).attach_mode, total(rows).zero_copy) == ("mixed", False)
    assert "queue" not in reported_total(summary)


def test_a_queue_whose_interface_was_made_anew_is_one_row_with_the_counts_of_both():
    earlier = [row(0, written=10, seen=12, ring_size=512, ring_fill=7), row(1, written=5)]
    later = row(0, written=1, seen=1, ring_size=256, ring_fill=3)
    later.current_file = "new"
    first, second = merged(earlier, [later])
    assert (first.written, first.seen, first.current_file) == (11, 13, "new")
    assert (first.ring_size, first.ring_fill) == (256, 3)
    assert (second.queue, second.written) == (1, 5)


def test_rows_that_are_put_together_again_and_again_do_not_grow():
    earlier = [row(0, written=10)]
    for _ in range(3):
        assert merged(earlier, [row(0, written=1)])[0].written == 11
    assert earlier[0].written == 10
