"""Standard output as the place for all records of a session.

One section header and one interface block each stand at the start, written before any
worker runs; then the workers' records follow in whole pieces, kept apart by a lock.
The order is each queue's own.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Callable

from xdpcap.errors import UsageError, XdpcapError
from xdpcap.record.file_chain import Account
from xdpcap.savefile.sink import FileSink, StreamLock

# A reader that takes nothing for so long at the start is not reading.
HEADER_WAIT_S = 5.0


class Pipe:
    """Standard output, opened for workers that must never block on it."""

    def __init__(self) -> None:
        if sys.stdout.isatty():
            raise UsageError(
                "-o - would write packets to the terminal; pipe it, or name a directory"
            )
        self.fd = _without_blocking(sys.stdout.fileno())
        self.lock = StreamLock()

    def write(self, data: bytes) -> None:
        """Write a header or a tail, waiting for the reader; raises XdpcapError."""
        view = memoryview(data)
        while view:
            if not select.select([], [self.fd], [], HEADER_WAIT_S)[1]:
                raise XdpcapError("standard output: nobody reads; check the command after the pipe")
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                continue
            except OSError as exc:
                raise XdpcapError(f"standard output: {exc.strerror}; the reader has gone") from exc

    def close(self) -> None:
        """Close our descriptor; standard output itself stays open."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _without_blocking(fd: int) -> int:
    """A descriptor of our own for a pipe, non-blocking without changing the shell's.

    O_NONBLOCK belongs to the open file, which the shell and others share, so a pipe is
    opened anew through /proc.  Regular files never block and are only duplicated, which
    keeps their position.
    """
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.dup(fd)


class EndlessChain:
    """A queue's records in one place, with no next file: nothing is renamed or completed."""

    current_path = ""
    file_count = 0

    def __init__(self) -> None:
        self.sink: FileSink | None = None
        self.account: Account | None = None
        self.failure: tuple[str, int] | None = None

    def collect(self) -> None:
        """Let the sink have back the blocks that are written."""
        assert self.sink is not None
        self.sink.collect()

    def close(self, timeout_s: float) -> bool:
        """Have the sink finish with what is left."""
        assert self.sink is not None
        self.sink.finish_file()
        self.sink.collect()
        return True

    def discard(self) -> None:
        """Nothing to undo."""


class PipeChain(EndlessChain):
    """A queue's records on the shared pipe: one endless file."""

    current_path = "-"
    file_count = 1

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def open_first(self, make_sink: Callable[[str], FileSink]) -> None:
        """Make the sink on the pipe."""
        self.sink = make_sink("stream")
        self.sink.open_file(self._pipe.fd)

    def rotate(self) -> bool:
        """A stream has no next file; SIGHUP only puts out what is in memory."""
        assert self.sink is not None
        self.sink.flush()
        return True
