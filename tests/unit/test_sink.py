"""The file sink: whole records in whole files, wherever blocks end and files change."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xdpcap.errors import UsageError
from xdpcap.savefile.encode import RecordEncoder
from xdpcap.savefile.headers import pcap_header
from xdpcap.savefile.reader import read_packets
from xdpcap.savefile.sink import FileSink, FinishedFile, choose_mode

BLOCK = 4096
HEADER = pcap_header(0)
ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 10.0


def record(length: int, number: int = 0) -> bytes:
    """A pcap record of exactly `length` bytes (16 or more), its content made from `number`."""
    packet = random.Random(number).randbytes(length - 16)
    return RecordEncoder("pcap").encode(packet, 1_700_000_000_000_000_000 + number)


def direct_directory(tmp_path: Path) -> Path:
    """A directory on a file system that takes O_DIRECT."""
    for parent in (tmp_path, ROOT / "build"):
        probe = parent / f"probe-{os.getpid()}"
        fd = os.open(probe, os.O_CREAT | os.O_WRONLY)
        try:
            mode, direct_fd = choose_mode(fd)
        finally:
            os.close(fd)
            probe.unlink()
        if direct_fd >= 0:
            os.close(direct_fd)
        if mode == "direct":
            return parent
    pytest.skip(f"neither {tmp_path} nor {ROOT} is on a file system with O_DIRECT")


@dataclass
class Files:
    """Drives a sink as the recorder does and remembers what must be in each file."""

    directory: Path
    mode: str
    blocks: int = 4
    header: bytes = HEADER
    expected: dict[int, bytearray] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    paths: dict[int, Path] = field(default_factory=dict)
    done: dict[Path, FinishedFile] = field(default_factory=dict)
    contents: dict[Path, tuple[bytes, int]] = field(default_factory=dict)
    appended: int = 0

    def __post_init__(self) -> None:
        self.sink = FileSink(BLOCK, self.blocks, self.mode)
        assert self.sink.mode == self.mode, "this machine has no io_uring"
        self._fds: dict[int, tuple[int, int]] = {}
        self._made = 0
        self.open()

    def open(self) -> None:
        path = self.directory / f"{os.getpid()}-{self._made}.pcap"
        self._made += 1
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        direct_fd = os.open(path, os.O_WRONLY | os.O_DIRECT) if self.mode == "direct" else -1
        while True:
            try:
                index = self.sink.open_file(fd, direct_fd, self.header)
                break
            except BlockingIOError:
                assert self.sink.wait(WAIT_S)
                self.collect()
        self.current = index
        self._fds[index] = fd, direct_fd
        self.paths[index] = path
        self.expected[index] = bytearray(self.header)
        self.counts[index] = 0

    def append(self, data: bytes) -> bool:
        self.appended += 1
        kept = self.sink.append(data, len(data) - 16)
        if kept:
            self.expected[self.current] += data
            self.counts[self.current] += 1
        return kept

    def rotate(self) -> None:
        self.sink.finish_file()
        self.collect()
        self.open()

    def collect(self) -> None:
        for finished in self.sink.collect():
            for fd in self._fds.pop(finished.index):
                if fd >= 0:
                    os.close(fd)
            path = self.paths.pop(finished.index)
            self.done[path] = finished
            self.contents[path] = (
                bytes(self.expected.pop(finished.index)),
                self.counts.pop(finished.index),
            )

    def end(self) -> None:
        """Finish the last file, wait for the disk, and free the sink."""
        self.sink.finish_file()
        assert self.sink.wait(WAIT_S)
        self.collect()
        assert not self._fds
        self.counters = self.sink.counters
        self.sink.close()

    def check(self) -> None:
        """Every file holds what was appended to it, exactly, and the counters say so."""
        for path, finished in self.done.items():
            content, packets = self.contents[path]
            assert finished.error == 0
            assert path.read_bytes() == content
            assert (finished.size, finished.packets) == (len(content), packets)
            assert finished.bytes == len(content) - len(self.header) - 16 * packets
        written, written_bytes, write_dropped, disk_bytes = self.counters
        assert (written, write_dropped) == (self.appended, 0)
        assert written_bytes == sum(finished.bytes for finished in self.done.values())
        assert disk_bytes >= sum(len(content) for content, _ in self.contents.values())


@pytest.fixture(params=["direct", "buffered", "sync"])
def new_files(request, tmp_path):
    """A factory of `Files`, in each way of writing."""
    directory = direct_directory(tmp_path) if request.param == "direct" else tmp_path
    made: list[Files] = []

    def make(**options) -> Files:
        made.append(Files(directory, request.param, **options))
        return made[-1]

    yield make
    for files in made:
        for path in [*files.paths.values(), *files.done]:
            path.unlink(missing_ok=True)


# --- how a file is written


def test_a_file_in_memory_is_written_at_once_and_one_on_disk_without_the_page_cache(tmp_path):
    with open("/dev/shm/xdpcap-test-sink", "wb") as memory:
        os.unlink(memory.name)
        assert choose_mode(memory.fileno()) == ("sync", -1)
    with open(direct_directory(tmp_path) / "on-disk", "wb") as disk:
        mode, direct_fd = choose_mode(disk.fileno())
        os.close(direct_fd)
        assert mode == "direct"
        assert choose_mode(disk.fileno(), direct=False) == ("buffered", -1)
        os.unlink(disk.name)


def test_a_pipe_and_a_device_are_streams():
    reader, writer = os.pipe()
    with open("/dev/full", "wb") as device:
        assert choose_mode(writer)[0] == choose_mode(device.fileno())[0] == "stream"
    os.close(reader)
    os.close(writer)


# --- where blocks end


@pytest.mark.parametrize("blocks", [2, 3, 8])
def test_a_record_may_end_anywhere_about_the_end_of_a_block(new_files, blocks):
    """From 40 bytes before the boundary to 40 after, byte by byte, a file each."""
    files = new_files(blocks=blocks)
    for place in range(-40, 41):
        if place > -40:
            files.rotate()
        files.append(record(100))
        files.append(record(BLOCK - len(HEADER) - 100 + place, place))
        # What follows must be whole as well, in this block and in the two after it.
        for number in range(5):
            files.append(record(1999, number))
    files.end()
    files.check()
    assert len(files.done) == 81


def test_a_record_that_ends_exactly_at_a_blocks_end_leaves_nothing_for_the_next(new_files):
    files = new_files()
    files.append(record(BLOCK - len(HEADER)))
    files.append(record(BLOCK))
    files.append(record(BLOCK))
    files.end()
    files.check()
    ((path, _),) = files.done.items()
    assert path.stat().st_size == 3 * BLOCK


@pytest.mark.parametrize("length", [16, 17, 60, 1000, BLOCK - 1, BLOCK])
def test_the_pool_is_used_many_times_over_with_records_of_one_length(new_files, length):
    files = new_files(blocks=2)
    for number in range(20 * BLOCK // length):
        files.append(record(length, number))
    files.end()
    files.check()


def test_a_record_longer_than_a_block_is_refused(new_files):
    files = new_files()
    with pytest.raises(UsageError, match="longer than a block"):
        files.append(record(BLOCK + 1))
    files.appended = 0
    files.end()
    files.check()


def test_packets_count_as_written_when_the_file_has_them_and_not_before(new_files):
    files = new_files()
    files.append(record(100))
    assert files.sink.counters[0] == 0
    files.sink.flush()
    assert files.sink.counters[0] == 1
    for number in range(45):
        files.append(record(100, number))
    assert files.sink.wait(WAIT_S)
    # The block is full: 24 + 40 * 100 + the first 72 bytes of the next.
    assert files.sink.counters[0] == 40
    files.end()
    files.check()


# --- flushing


def test_after_a_flush_the_file_has_everything_up_to_then_at_any_place(new_files):
    files = new_files(blocks=3)
    for number in range(150):
        files.append(record(83, number))
        assert files.sink.wait(WAIT_S)
        files.sink.flush()
        assert files.paths[files.current].read_bytes() == bytes(files.expected[files.current])
        assert files.sink.counters[0] == files.appended
    files.end()
    files.check()


def test_a_file_that_was_flushed_at_a_blocks_end_goes_on_in_the_next(new_files):
    files = new_files()
    files.append(record(BLOCK - len(HEADER)))
    assert files.sink.wait(WAIT_S)
    files.sink.flush()
    assert files.paths[files.current].stat().st_size == BLOCK
    files.append(record(50))
    files.sink.flush()
    assert files.paths[files.current].stat().st_size == BLOCK + 50
    files.end()
    files.check()


def test_a_file_without_a_packet_is_its_header(new_files):
    files = new_files()
    files.sink.flush()
    assert files.paths[files.current].read_bytes() == HEADER
    files.rotate()
    files.end()
    files.check()
    assert {finished.size for finished in files.done.values()} == {len(HEADER)}


# --- changing files


def test_files_change_while_their_blocks_are_in_flight(new_files):
    files = new_files(blocks=8)
    number = 0
    for _ in range(200):
        for _ in range(3):
            files.append(record(2500, number))
            number += 1
        files.rotate()
    files.end()
    files.check()
    assert len(files.done) == 201


def test_a_small_pool_of_blocks_waits_for_the_disk_at_a_change_of_files(new_files):
    files = new_files(blocks=2)
    for number in range(60):
        files.append(record(16 + 137 * number % BLOCK, number))
        files.rotate()
    files.end()
    files.check()


def test_each_finished_file_is_collected_once(new_files):
    files = new_files()
    files.append(record(100))
    assert files.sink.collect() == []
    files.sink.finish_file()
    assert files.sink.wait(WAIT_S)
    assert [finished.packets for finished in files.sink.collect()] == [1]
    assert files.sink.collect() == []


def test_a_sink_without_a_file_says_so_and_takes_no_record(new_files):
    files = new_files()
    files.end()
    empty = FileSink(BLOCK, 2, files.mode)
    with pytest.raises(ValueError, match="no current file"):
        empty.finish_file()
    assert empty.append(record(100), 84) is False
    assert empty.counters[:3] == (0, 0, 1)
    empty.close()


@pytest.mark.parametrize(
    ("block", "count"), [(0, 4), (1000, 4), (BLOCK + 512, 4), (BLOCK, 1), (BLOCK, 0)]
)
def test_a_pool_that_can_not_work_is_refused(block, count):
    with pytest.raises(UsageError):
        FileSink(block, count, "sync")


# --- anything in any order

actions = st.lists(
    st.one_of(
        st.integers(16, BLOCK),
        st.integers(16, 120),
        st.sampled_from(["flush", "rotate", "wait", "collect"]),
    ),
    max_size=120,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=actions, blocks=st.integers(2, 5))
def test_whatever_is_done_in_whatever_order_each_file_has_its_own_records(new_files, steps, blocks):
    files = new_files(blocks=blocks)
    for number, step in enumerate(steps):
        if step == "flush":
            files.sink.flush()
        elif step == "rotate":
            files.rotate()
        elif step == "wait":
            assert files.sink.wait(WAIT_S)
        elif step == "collect":
            files.collect()
        else:
            files.append(record(step, number))
    files.end()
    files.check()
    for path in files.done:
        assert len(list(read_packets(path))) == files.contents[path][1]
        path.unlink()
    files.done.clear()
