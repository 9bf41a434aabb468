"""The file sink when writes fail: every packet is counted once, what is there is readable."""

from __future__ import annotations

import errno
import fcntl
import io
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from xdpcap.savefile.encode import RecordEncoder
from xdpcap.savefile.headers import pcap_header
from xdpcap.savefile.reader import read_packets
from xdpcap.savefile.sink import FileSink, StreamLock, choose_mode

BLOCK = 4096
HEADER = pcap_header(0)
WAIT_S = 10.0
PACKET_BYTES = 83
RECORDS = 200  # of 99 bytes: nearly five blocks


def records(count: int, packet_bytes: int = PACKET_BYTES) -> list[bytes]:
    """pcap records of packets that hold their number."""
    encoder = RecordEncoder("pcap")
    packets = (number.to_bytes(8, "big").ljust(packet_bytes, b".") for number in range(count))
    return [encoder.encode(packet, 10**18) for packet in packets]


def packets_in(data: bytes) -> list[bytes]:
    return [packet.data for packet in read_packets(io.BytesIO(data))]


# --- a file-size limit


@dataclass
class Outcome:
    """What a sink said and left after more was appended than the limit allowed."""

    size: int
    packets: int
    error: int
    written: int
    write_dropped: int
    content: bytes
    current_error: int


def _under_a_limit(path: Path, mode: str, limit: int, *, flush_every: int, blocks: int) -> Outcome:
    """Append RECORDS records to a file that may have `limit` bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    direct_fd = os.open(path, os.O_WRONLY | os.O_DIRECT) if mode == "direct" else -1
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    sink = FileSink(BLOCK, blocks, mode)
    sink.open_file(fd, direct_fd, HEADER)
    for number, record in enumerate(records(RECORDS), start=1):
        sink.append(record, PACKET_BYTES)
        if flush_every and number % flush_every == 0:
            assert sink.wait(WAIT_S)
            sink.flush()
    current_error = sink.current_error
    sink.finish_file()
    assert sink.wait(WAIT_S)
    (finished,) = sink.collect()
    assert sink.collect() == []
    written, _, write_dropped, _ = sink.counters
    sink.close()
    os.ftruncate(fd, finished.size)  # as the closer does
    content = path.read_bytes()
    path.unlink()
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    return Outcome(
        finished.size,
        finished.packets,
        finished.error,
        written,
        write_dropped,
        content,
        current_error,
    )


@pytest.fixture(scope="module")
def child():
    """A process whose limits may be lowered."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        yield pool


# About the header's end, the first records' and the blocks'.
LIMITS = [0, 1, 23, 24, 25, 122, 123, 124, 1000, 4095, 4096, 4097, 4200, 8191, 8192, 8193, 12000]


@pytest.mark.parametrize("blocks", [2, 8])
@pytest.mark.parametrize("flush_every", [0, 1, 7])
@pytest.mark.parametrize("mode", ["direct", "buffered", "sync"])
def test_a_file_that_may_not_grow_keeps_whole_packets_and_each_is_counted_once(
    child, tmp_path, mode, flush_every, blocks
):
    how = {"flush_every": flush_every, "blocks": blocks}
    for limit in LIMITS:
        path = tmp_path / f"{limit}.pcap"
        outcome = child.apply(_under_a_limit, (path, mode, limit), how)
        assert outcome.error == errno.EFBIG, limit
        assert outcome.written + outcome.write_dropped == RECORDS, limit
        assert outcome.packets == outcome.written, limit
        assert len(outcome.content) == outcome.size <= limit
        if outcome.size == 0:
            assert outcome.packets == 0
            continue
        expected = [record[16:] for record in records(outcome.packets)]
        assert packets_in(outcome.content) == expected, limit


@pytest.mark.parametrize("mode", ["direct", "buffered", "sync"])
@pytest.mark.parametrize("room", [3000, 4096 + 3000])
def test_of_a_block_that_fails_midway_all_but_a_sixteenth_is_kept(child, tmp_path, mode, room):
    outcome = child.apply(
        _under_a_limit, (tmp_path / "f", mode, room), {"flush_every": 0, "blocks": 4}
    )
    assert room - BLOCK // 16 - 99 < outcome.size <= room


@pytest.mark.parametrize("mode", ["direct", "buffered", "sync"])
def test_a_flush_brings_all_whole_packets_under_the_limit(child, tmp_path, mode):
    """What a flush found in order stays, whatever becomes of the block later."""
    room = 3000
    whole = (room - len(HEADER)) // 99
    how = {"flush_every": 1, "blocks": 4}
    outcome = child.apply(_under_a_limit, (tmp_path / "f", mode, room), how)
    assert (outcome.packets, outcome.size) == (whole, len(HEADER) + 99 * whole)
    assert outcome.current_error == errno.EFBIG


def test_the_next_file_is_whole_after_one_that_failed(tmp_path):
    """A device that is always full stands for the file that fails."""
    sink = FileSink(BLOCK, 4, "buffered")
    full = os.open("/dev/full", os.O_WRONLY)
    sink.open_file(full, -1, HEADER)
    for record in records(100):
        sink.append(record, PACKET_BYTES)
    sink.finish_file()
    good = os.open(tmp_path / "good.pcap", os.O_CREAT | os.O_WRONLY)
    while True:
        try:
            sink.open_file(good, -1, HEADER)
            break
        except BlockingIOError:
            assert sink.wait(WAIT_S)
    for record in records(100):
        assert sink.append(record, PACKET_BYTES)
    sink.finish_file()
    assert sink.wait(WAIT_S)
    by_error = {finished.error: finished for finished in sink.collect()}
    assert by_error[errno.ENOSPC].packets == by_error[errno.ENOSPC].size == 0
    assert by_error[0].packets == 100
    assert (tmp_path / "good.pcap").read_bytes() == HEADER + b"".join(records(100))
    assert sink.counters[0] == sink.counters[2] == 100
    sink.close()
    os.close(full)
    os.close(good)


# --- streams


def stream(fd: int, lock: StreamLock | None = None, block: int = BLOCK) -> FileSink:
    sink = FileSink(block, 4, choose_mode(fd)[0], lock)
    assert sink.mode == "stream"
    sink.open_file(fd)
    return sink


def test_a_full_device_drops_every_packet_and_says_why():
    fd = os.open("/dev/full", os.O_WRONLY)
    sink = stream(fd)
    for record in records(200):
        sink.append(record, PACKET_BYTES)
    assert sink.current_error == errno.ENOSPC
    sink.finish_file()
    assert sink.counters[:3] == (0, 0, 200)
    assert [finished.packets for finished in sink.collect()] == [0]
    sink.close()
    os.close(fd)


def test_a_pipe_whose_reader_has_gone_drops_what_comes_after(tmp_path):
    reader, writer = os.pipe()
    sink = stream(writer)
    first, later = records(300)[:40], records(300)[40:]
    for record in first:
        sink.append(record, PACKET_BYTES)
    sink.flush()
    assert os.read(reader, 1 << 16) == b"".join(first)
    os.close(reader)
    for record in later:
        sink.append(record, PACKET_BYTES)
    sink.finish_file()
    assert sink.current_error == errno.EPIPE
    assert sink.counters[:3] == (40, 40 * PACKET_BYTES, 260)
    sink.close()
    os.close(writer)


def test_a_pipe_smaller_than_a_block_gets_every_byte_in_short_writes(tmp_path):
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    got = tmp_path / "got"
    with got.open("wb") as out:
        cat = subprocess.Popen([sys.executable, "-c", SLOW_CAT], stdin=reader, stdout=out)
    os.close(reader)
    sink = stream(writer)
    sent = records(2000, packet_bytes=61)
    for record in sent:
        assert sink.append(record, 61)
    sink.finish_file()
    assert sink.counters[:3] == (2000, 2000 * 61, 0)
    sink.close()
    os.close(writer)
    assert cat.wait(WAIT_S) == 0
    assert got.read_bytes() == b"".join(sent)


# Reads pieces that fit no record, so that the pipe is full most of the time.
SLOW_CAT = """
import os
while piece := os.read(0, 1009):
    os.write(1, piece)
"""


def test_the_records_of_two_workers_stay_whole_on_one_pipe(tmp_path):
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    got = tmp_path / "got"
    with got.open("wb") as out:
        cat = subprocess.Popen([sys.executable, "-c", SLOW_CAT], stdin=reader, stdout=out)
    os.close(reader)
    lock = StreamLock()
    os.write(writer, HEADER)

    def work(packet_bytes: int) -> None:
        sink = stream(writer, lock, 16 * BLOCK)
        for number, record in enumerate(records(1500, packet_bytes)):
            sink.append(record, packet_bytes)
            if number % 100 == 0:
                # Lets the other thread run; more than PIPE_BUF, so the pipe may take a part.
                sink.flush()
        sink.finish_file()
        assert sink.counters[0] == 1500
        sink.close()

    sizes = (70, 133)
    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(writer)
    assert cat.wait(WAIT_S) == 0
    packets = packets_in(got.read_bytes())
    for size in sizes:
        mine = [packet for packet in packets if len(packet) == size]
        assert mine == [record[16:] for record in records(1500, size)]
    assert len(packets) == 3000


def test_a_pipe_that_failed_one_worker_takes_nothing_from_another():
    """What follows a torn record would be garbage to the reader."""
    full = os.open("/dev/full", os.O_WRONLY)
    reader, writer = os.pipe()
    lock = StreamLock()
    first, second = stream(full, lock), stream(writer, lock)
    first.append(records(1)[0], PACKET_BYTES)
    first.flush()
    second.append(records(1)[0], PACKET_BYTES)
    second.finish_file()
    assert first.current_error == second.current_error == errno.ENOSPC
    assert second.counters == (0, 0, 1, 0)
    os.close(writer)
    assert os.read(reader, 1 << 16) == b""
    for sink in (first, second):
        sink.close()
    os.close(reader)
    os.close(full)
