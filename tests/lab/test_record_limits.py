"""When a recording ends by itself, and what is kept: exact counts, never a byte too many."""

from __future__ import annotations

import socket
import time

import pytest
from capture_files import contents, numbers, of_queue, packets, parts
from ledger_checks import check_books

from xdpcap.bench.lab.frames import mixed_frames, numbered_frame
from xdpcap.bench.lab.traffic import Sender, blast, send_frames


def files_size(result) -> int:
    return sum(path.stat().st_size for path in result.files)


# --- count


@pytest.mark.parametrize("rules", [[], ["--rotate-packets", "30"], ["--batch", "1"]])
def test_a_recording_of_so_many_packets_ends_by_itself_with_exactly_these(lab, record, rules):
    recorder = record("--json", "--count", "100", *rules)
    send_frames(lab, [numbered_frame(60, number) for number in range(250)])
    result = recorder.wait()
    assert result.returncode == 0
    assert check_books(result)["written"] == 100
    assert numbers(result.files) == list(range(100))


def test_the_count_is_of_all_queues_together(make_lab, record):
    lab = make_lab(queues=2)
    recorder = record("--json", "--count", "1000", lab=lab)
    with Sender(lab, 0) as first, Sender(lab, 1) as second:
        number = 0
        while recorder.process.poll() is None and number < 5000:
            frames = [numbered_frame(60, n) for n in range(number, number + 10)]
            first.send(frames)
            second.send(frames)
            number += 10
    result = recorder.wait()
    assert check_books(result)["written"] == 1000
    of_each = [numbers(of_queue(result, queue)) for queue in range(2)]
    assert sum(map(len, of_each)) == 1000
    # Each queue has its first ones, without a gap.
    assert all(found == list(range(len(found))) for found in of_each)
    assert min(map(len, of_each)) > 0


def test_the_last_packet_counted_ends_the_recording_without_another(lab, record):
    recorder = record("--json", "--count", "1")
    send_frames(lab, [numbered_frame(60, 7)])
    result = recorder.wait(5.0)
    assert (result.returncode, numbers(result.files)) == (0, [7])


def test_the_count_holds_at_full_rate(make_lab, record):
    lab = make_lab(queues=2)
    recorder = record("--json", "--count", "50k", "--format", "pcap", lab=lab)
    for _ in range(4):
        for queue in range(2):
            blast(lab, 15_000, queue=queue)
    result = recorder.wait()
    assert check_books(result)["written"] == 50_000


# --- size


@pytest.mark.parametrize(
    ("limit", "file_format", "rules"),
    [
        (5_000, "pcapng", []),
        (100_000, "pcap", []),
        (5_000, "pcap", ["--rotate-packets", "7"]),
        (100_000, "pcapng", ["--rotate-packets", "7"]),
    ],
)
def test_all_files_together_never_exceed_the_size_asked_for(
    make_lab, record, file_format, limit, rules
):
    lab = make_lab(queues=2)
    recorder = record("--json", "--max-size", str(limit), *rules, "--format", file_format, lab=lab)
    sent = list(mixed_frames(600))
    for queue in range(2):
        send_frames(lab, sent, queue)
    result = recorder.wait()
    assert result.returncode == 0
    check_books(result)
    # The next packet would not have fitted, nor perhaps a file with it, whose header and tail
    # have more than a kilobyte.
    assert limit - 1600 - 2 * 1200 < files_size(result) <= limit
    for queue in range(2):
        found = contents(of_queue(result, queue))
        assert found == sent[: len(found)]


# --- time


def test_a_recording_of_some_time_ends_by_itself(lab, record):
    recorder = record("--json", "--duration", "700ms")
    started = time.monotonic()
    send_frames(lab, [numbered_frame(60, number) for number in range(50)])
    result = recorder.wait()
    lasted = time.monotonic() - started
    assert result.returncode == 0
    assert numbers(result.files) == list(range(50))
    # It was ready a moment before it was seen to be, and takes a moment to end.
    assert 0.5 < lasted < 3.0


def test_whichever_limit_comes_first_ends_the_recording(lab, record):
    recorder = record("--json", "--count", "10", "--duration", "60s", "--max-size", "1GiB")
    send_frames(lab, [numbered_frame(60, number) for number in range(20)])
    assert numbers(recorder.wait(10.0).files) == list(range(10))


# --- keep


def test_only_the_newest_files_are_kept_and_reported(lab, record):
    recorder = record("--json", "--rotate-packets", "10", "--keep", "3")
    send_frames(lab, [numbered_frame(60, number) for number in range(95)])
    result = recorder.stop()
    assert result.total["written"] == 95
    assert numbers(result.files) == list(range(70, 95))
    assert [file["path"] for file in result.report["files"]] == [str(p) for p in result.files]
    assert len(result.files) == 3


def test_files_of_all_queues_share_the_number_to_keep(make_lab, record):
    lab = make_lab(queues=2)
    recorder = record("--json", "--rotate-packets", "10", "--keep", "3", lab=lab)
    for queue in range(2):
        send_frames(lab, [numbered_frame(60, number) for number in range(100)], queue)
        time.sleep(0.1)  # so that all files of the first queue are older
    result = recorder.stop()
    assert len(result.files) == 3
    assert len(of_queue(result, 1)) >= 2


def test_files_of_an_earlier_recording_make_room_and_other_files_do_not(lab, record, tmp_path):
    first = record("--json", "--rotate-packets", "10")
    send_frames(lab, [numbered_frame(60, number) for number in range(30)])
    earlier = first.stop().files
    other = earlier[0].parent / "notes.pcapng"
    other.write_bytes(earlier[0].read_bytes())
    second = record("--json", "--rotate-packets", "10", "--keep", "2")
    send_frames(lab, [numbered_frame(60, number) for number in range(100, 115)])
    result = second.stop()
    assert other in result.files
    left = [path for path in result.files if path != other]
    assert numbers(left) == list(range(100, 115))
    assert len(left) == 2


def test_files_are_deleted_when_they_are_too_large_together(lab, record):
    limit = 60_000
    recorder = record("--json", "--rotate-size", "20kB", "--keep-size", str(limit))
    sent = [numbered_frame(1000, number) for number in range(300)]
    send_frames(lab, sent)
    result = recorder.stop()
    assert limit - 21_000 < files_size(result) <= limit
    found = numbers(result.files)
    assert found == list(range(300 - len(found), 300))


# --- names


def test_a_file_has_the_name_that_the_template_says(lab, record):
    template = "{host}_{interface}.{queue}_{sequence:03d}_%Y.{ext}"
    recorder = record("--json", "--rotate-packets", "10", "--name", template)
    (part,) = parts(recorder)
    send_frames(lab, [numbered_frame(60, number) for number in range(15)])
    result = recorder.stop()
    host, year = socket.gethostname(), time.strftime("%Y", time.gmtime())
    names = [f"{host}_rx0.0_{n:03d}_{year}.pcapng" for n in (1, 2)]
    assert [path.name for path in result.files] == names
    assert part.name == f"{names[0]}.part"
    assert [len(packets([path])) for path in result.files] == [10, 5]


def test_a_file_that_is_there_already_is_never_overwritten(lab, record):
    """The next free number is taken instead."""
    for first in (0, 10):
        recorder = record("--json", "--name", "{interface}-q{queue}-{sequence}.{ext}")
        send_frames(lab, [numbered_frame(60, first)])
        result = recorder.stop()
    assert [(path.name, numbers([path])) for path in result.files] == [
        ("rx0-q0-1.pcapng", [0]),
        ("rx0-q0-2.pcapng", [10]),
    ]


# --- where a limit leaves no room


def test_a_file_is_not_begun_when_the_limit_has_no_room_for_its_header(lab, record):
    # A pcap header of 24 bytes and 76 bytes a record: 20 are left when the file is full.
    limit = 24 + 7 * 76 + 20
    recorder = record(
        "--json", "--format", "pcap", "--rotate-packets", "7", "--max-size", str(limit)
    )
    send_frames(lab, [numbered_frame(60, number) for number in range(20)])
    result = recorder.wait()
    assert result.returncode == 0
    assert check_books(result)["written"] == 7
    assert files_size(result) == limit - 20
    assert numbers(result.files) == list(range(7))


def test_a_rotation_by_the_clock_ends_the_recording_when_there_is_no_room_for_another(lab, record):
    recorder = record("--json", "--rotate-interval", "200ms", "--max-size", "1500")
    send_frames(lab, [numbered_frame(60, number) for number in range(3)])
    result = recorder.wait(10.0)
    assert result.returncode == 0
    assert numbers(result.files) == [0, 1, 2]
    assert files_size(result) <= 1500


def test_a_limit_with_no_room_for_a_first_file_is_refused_and_leaves_none(make_lab, record):
    lab = make_lab(queues=2)
    result = record("--max-size", "700", lab=lab, ready=False).wait()
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("xdpcap: --max-size: has no room")
    assert result.files == []
