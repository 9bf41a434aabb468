"""New files by size, by packets and by the clock: each whole, none too large, nothing lost."""

from __future__ import annotations

import itertools
import re
import signal
import time
from datetime import UTC, datetime

import pytest
from capture_files import (
    capinfos,
    complete,
    contents,
    numbers,
    of_queue,
    packets,
    parts,
    statistics,
    wait_for_files,
)
from ledger_checks import check_books

from xdpcap.bench.lab.frames import mixed_frames, numbered_frame
from xdpcap.bench.lab.traffic import Sender, send_frames
from xdpcap.savefile.reader import read_packets

# How late a rotation by the clock may come on a busy machine.
LATE_NS = 200_000_000


def started_ns(path) -> int:
    """The start in a file's name: rx0-q0-20261121T093000.123456789Z-000001.pcapng."""
    stamp = re.search(r"-(\d{8}T\d{6})\.(\d{9})Z-", path.name)
    seconds = datetime.strptime(stamp[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
    return int(seconds) * 1_000_000_000 + int(stamp[2])


def sequence(path) -> int:
    """The number at the end of a file's name."""
    return int(re.search(r"-(\d{6})\.pcap(ng)?$", path.name)[1])


# --- by size


@pytest.mark.parametrize(("file_format", "limit"), [("pcapng", 20_000), ("pcap", 300_000)])
def test_no_file_is_larger_than_asked_and_all_packets_are_in_order_over_them(
    lab, record, file_format, limit
):
    sent = list(mixed_frames(3000))
    recorder = record("--json", "--rotate-size", str(limit), "--format", file_format)
    send_frames(lab, sent)
    result = recorder.stop()
    assert check_books(result)["written"] == len(sent)
    sizes = [path.stat().st_size for path in result.files]
    assert len(sizes) > sum(map(len, sent)) // limit
    assert max(sizes) <= limit
    # Not smaller than need be either: the next packet would not have fitted.
    assert min(sizes[:-1]) > limit - 128 - 1600
    assert contents(result.files) == sent
    assert [sequence(path) for path in result.files] == list(range(1, len(sizes) + 1))


def test_a_packet_longer_than_the_limit_has_a_file_of_its_own(lab, record):
    sent = [numbered_frame(1514, number) for number in range(5)]
    recorder = record("--json", "--rotate-size", "1000")
    send_frames(lab, sent)
    result = recorder.stop()
    assert [contents([path]) for path in result.files] == [[frame] for frame in sent]


# --- by packets


@pytest.mark.parametrize(("count", "expected"), [(25, [10, 10, 5]), (20, [10, 10]), (9, [9])])
def test_each_file_has_exactly_as_many_packets_as_asked(lab, record, count, expected):
    recorder = record("--json", "--rotate-packets", "10")
    send_frames(lab, [numbered_frame(60, number) for number in range(count)])
    result = recorder.stop()
    assert [len(packets([path])) for path in result.files] == expected
    assert numbers(result.files) == list(range(count))
    assert [file["packets"] for file in result.report["files"]] == expected


def test_each_queue_counts_its_own_packets(make_lab, record):
    lab = make_lab(queues=2)
    recorder = record("--json", "--rotate-packets", "7", lab=lab)
    for queue, count in enumerate((20, 8)):
        send_frames(lab, [numbered_frame(60, number) for number in range(count)], queue)
    result = recorder.stop()
    check_books(result)
    assert [len(packets([path])) for path in of_queue(result, 0)] == [7, 7, 6]
    assert [len(packets([path])) for path in of_queue(result, 1)] == [7, 1]
    assert numbers(of_queue(result, 1)) == list(range(8))


# --- by the clock


def test_files_change_by_the_clock_when_no_packet_comes_at_all(make_lab, record):
    lab = make_lab(queues=2)
    recorder = record("--json", "--rotate-interval", "200ms", lab=lab)
    wait_for_files(recorder, 8)
    result = recorder.stop()
    for queue in range(2):
        files = of_queue(result, queue)
        starts = [started_ns(path) for path in files]
        # On the clock's grid: a late one does not make the next one late.
        for number, start in enumerate(starts[1:], start=1):
            due = starts[0] + number * 200_000_000
            assert due - LATE_NS < start < due + LATE_NS, starts
        assert {capinfos(path)["Number of packets"] for path in files[:2]} == {"0"}
        assert all(statistics(path)["isb_ifrecv"] == 0 for path in files)
    assert result.total["files"] == len(result.files) == len(result.report["files"])


def test_aligned_files_begin_at_multiples_of_the_interval(lab, record):
    recorder = record("--json", "--rotate-interval", "500ms", "--rotate-align")
    wait_for_files(recorder, 3)
    starts = [started_ns(path) for path in recorder.stop().files]
    assert all(start % 500_000_000 < LATE_NS for start in starts[1:]), starts
    periods = [start // 500_000_000 for start in starts]
    assert periods == list(range(periods[0], periods[0] + len(periods)))


def test_packets_are_in_the_file_of_the_time_they_came(lab, record):
    recorder = record("--json", "--rotate-interval", "300ms")
    with Sender(lab) as sender:
        for number in range(120):
            sender.send([numbered_frame(60, number)])
            time.sleep(0.01)
    result = recorder.stop()
    assert numbers(result.files) == list(range(120))
    assert len(result.files) >= 4
    for path, following in itertools.pairwise(result.files):
        times = [packet.ts_ns for packet in read_packets(path)]
        assert all(started_ns(path) - LATE_NS < t < started_ns(following) for t in times)


# --- together


def test_whichever_rule_comes_first_ends_a_file(lab, record):
    limit = 30_000
    rules = ["--rotate-size", str(limit), "--rotate-packets", "40", "--rotate-interval", "250ms"]
    recorder = record("--json", *rules)
    with Sender(lab) as sender:
        # 100 by packets, 100 by size, and then a few until the clock ends their files.
        sender.send(numbered_frame(60, number) for number in range(100))
        sender.send(numbered_frame(1514, number) for number in range(100, 200))
        for number in range(200, 240):
            sender.send([numbered_frame(60, number)])
            time.sleep(0.02)
    result = recorder.stop()
    check_books(result)
    assert numbers(result.files) == list(range(240))
    counts = [len(packets([path])) for path in result.files]
    assert max(counts) == 40 == counts[0]
    assert max(path.stat().st_size for path in result.files) <= limit
    assert counts.count(18) >= 4  # of 1514 bytes no more than 18 fit into 30000
    assert len(result.files) >= 3 + 5 + 2


def test_sighup_begins_a_new_file_on_every_queue_with_or_without_packets(make_lab, record):
    lab = make_lab(queues=2)
    recorder = record("--json", lab=lab)
    send_frames(lab, [numbered_frame(60, 0)], 0)
    recorder.send_signal(signal.SIGHUP)
    wait_for_files(recorder, 2)
    recorder.wait_for(lambda: len(parts(recorder)) == 2)
    send_frames(lab, [numbered_frame(60, 1)], 0)
    result = recorder.stop()
    check_books(result)
    assert [numbers([path]) for path in of_queue(result, 0)] == [[0], [1]]
    assert [numbers([path]) for path in of_queue(result, 1)] == [[], []]


# --- names while recording


def test_a_file_is_called_part_until_it_is_complete(lab, record):
    recorder = record("--json", "--rotate-packets", "10")
    assert complete(recorder) == []
    (first,) = parts(recorder)
    send_frames(lab, [numbered_frame(60, number) for number in range(25)])
    done = wait_for_files(recorder, 2)
    # Complete from the moment it has its name, and each readable alone.
    assert [numbers([path]) for path in done] == [list(range(10)), list(range(10, 20))]
    assert done[0].name == first.name.removesuffix(".part")
    assert [sequence(path.with_suffix("")) for path in parts(recorder)] == [3]
    result = recorder.stop()
    assert len(result.files) == 3
    assert parts(recorder) == []


def test_a_complete_file_never_changes_again(lab, record):
    recorder = record("--json", "--rotate-packets", "10")
    seen = {}
    with Sender(lab) as sender:
        for number in range(100):
            sender.send([numbered_frame(200, number)])
            # A file is complete when a packet comes that it has no room for.
            for path in wait_for_files(recorder, number // 10):
                seen.setdefault(path, path.read_bytes())
    result = recorder.stop()
    assert len(seen) == 9
    assert all(path.read_bytes() == data for path, data in seen.items())
    assert numbers(result.files) == list(range(100))
