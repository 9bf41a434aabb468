"""Records that are made and thrown away: what a recorder does when writing costs nothing.

Stands in for the files of a recording (`record.outputs`): a chain whose sink discards every
block. What has been thrown away counts as written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from xdpcap.record.capture import SharedLimit
from xdpcap.record.ledger import QueueAccount
from xdpcap.record.pipe_output import EndlessChain
from xdpcap.savefile.sink import FileSink, StreamLock


class DiscardChain(EndlessChain):
    """The records of one queue, none of which gets anywhere."""

    def __init__(self, header: bytes) -> None:
        super().__init__()
        self._header = header

    def open_first(self, make_sink: Callable[[str], FileSink]) -> None:
        """Make the sink; there is no file."""
        self.sink = make_sink("discard")
        self.sink.open_file(-1, -1, self._header)

    def rotate(self) -> bool:
        """There is no next file; SIGHUP changes nothing."""
        return True


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

    def close(self) -> None:
        """Nothing is left to end."""
