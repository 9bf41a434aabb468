"""Records that are made and thrown away: what a recorder does when writing costs nothing.

Stands in for the files of a recording (`files`, `outputs`): a chain whose sink discards every
block. What has been thrown away counts as written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from xdpcap.record.capture import SharedLimit
from xdpcap.record.file_chain import Account
from xdpcap.record.ledger import QueueAccount
from xdpcap.savefile.sink import FileSink, StreamLock


class DiscardChain:
    """The records of one queue, none of which gets anywhere."""

    def __init__(self, header: bytes) -> None:
        self._header = header
        self.sink: FileSink | None = None
        self.account: Account | None = None
        self.current_path = ""
        self.file_count = 0
        self.failure: tuple[str, int] | None = None

    def open_first(self, make_sink: Callable[[str], FileSink]) -> None:
        """Make the sink; there is no file."""
        self.sink = make_sink("discard")
        self.sink.open_file(-1, -1, self._header)

    def rotate(self) -> bool:
        """There is no next file; SIGHUP changes nothing."""
        return True

    def collect(self) -> None:
        """Nothing is completed."""
        assert self.sink is not None
        self.sink.collect()

    def close(self, timeout_s: float) -> bool:
        """Throw away what is left."""
        assert self.sink is not None
        self.sink.finish_file()
        self.sink.collect()
        return True

    def discard(self) -> None:
        """Nothing to undo."""


class DiscardOutput:
    """Makes a `DiscardChain` for each queue."""

    stream_lock: StreamLock | None = None
    files: tuple[dict[str, Any], ...] = ()

    def __init__(self, header: bytes = b"") -> None:
        self._header = header

    def make_chain(self, interface: str, queue: int, limit: SharedLimit | None) -> DiscardChain:
        """A queue's records."""
        return DiscardChain(self._header)

    def finish(self, rows: Iterable[QueueAccount]) -> list[str]:
        """Nothing is left to complete."""
        return []
