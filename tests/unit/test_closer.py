"""The closer of files: whatever fails with one, those behind it are completed, and it is told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from xdpcap.record import file_chain
from xdpcap.record.file_chain import Closer, _Job, _OpenFile
from xdpcap.savefile.directory import Directory
from xdpcap.savefile.sink import FinishedFile

TIMEOUT_S = 10.0


def job(directory: Directory, number: int) -> _Job:
    """A finished file of four bytes."""
    part = directory.open_part(lambda sequence: f"{sequence}.pcap", number)
    Path(part.path_part).write_bytes(b"data")
    return _Job(_OpenFile(part, -1), FinishedFile(0, 4, 1, 4, 0))


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(str(tmp_path), report=print)


def failing(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> None:
    """Have the completion of one file fail."""
    complete = Directory.complete

    def replaced(self, part, *args):
        if part.sequence == number:
            raise error
        return complete(self, part, *args)

    monkeypatch.setattr(Directory, "complete", replaced)


@pytest.mark.parametrize(
    "error", [OSError(5, "I/O"), MemoryError(), KeyError("x"), SystemExit(0), KeyboardInterrupt()]
)
def test_any_exception_leaves_one_file_as_it_is_and_completes_the_others(
    directory, tmp_path, monkeypatch, error
):
    failing(monkeypatch, 2, error)
    closer = Closer(directory)
    for number in (1, 2, 3):
        closer.put(job(directory, number))
    closer.close(TIMEOUT_S)
    [told] = closer.errors
    assert "\n" not in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.pcap", "2.pcap.part", "3.pcap"]


def test_when_its_thread_itself_has_failed_the_rest_is_completed_at_the_close(
    directory, tmp_path, monkeypatch
):
    """As without the memory to say what has failed."""
    failing(monkeypatch, 1, KeyError("x"))

    def failure_line(exc: BaseException) -> str:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(file_chain, "failure_line", failure_line)
    closer = Closer(directory)
    closer.put(job(directory, 1))
    deadline = time.monotonic() + TIMEOUT_S
    while not closer.errors:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for number in (2, 3):
        closer.put(job(directory, number))
    closer.close(TIMEOUT_S)
    [told] = closer.errors
    assert told.startswith("out of memory; ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.pcap.part", "2.pcap", "3.pcap"]


def test_a_file_that_can_not_be_completed_in_time_is_told(directory, tmp_path, monkeypatch):
    complete = Directory.complete
    monkeypatch.setattr(
        Directory, "complete", lambda self, *args: (time.sleep(0.5), complete(self, *args))
    )
    closer = Closer(directory)
    closer.put(job(directory, 1))
    closer.close(0.05)
    [told] = closer.errors
    assert "in time" in told and ".part is readable" in told
    # The thread goes on by itself.
    deadline = time.monotonic() + TIMEOUT_S
    while not (tmp_path / "1.pcap").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
