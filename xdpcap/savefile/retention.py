"""Which complete files are the oldest and too many.

Deletes nothing itself. Not thread-safe: its `Directory` calls it under a lock.
"""

from __future__ import annotations

import io
import os
import re
import stat
from itertools import islice

from xdpcap.errors import XdpcapError
from xdpcap.savefile.headers import APPLICATION, PCAP_MAGIC_NS
from xdpcap.savefile.reader import read_blocks

_PCAP_MAGIC = PCAP_MAGIC_NS.to_bytes(4, "little")
#: Enough for the Section Header Block of any program.
_HEAD_BYTES = 1 << 16
_APPLICATION_NAME = APPLICATION.split()[0]


class Retention:
    """The complete files, oldest first: those found at the start, then those added.

    At most `keep_files` files of at most `keep_size_bytes` in total (None: no
    limit). The newest file stays even if it is too large alone.
    """

    def __init__(self, keep_files: int | None, keep_size_bytes: int | None) -> None:
        self._keep_files = keep_files
        self._keep_size_bytes = keep_size_bytes
        self._sizes: dict[str, int] = {}

    @property
    def limited(self) -> bool:
        """Whether anything is ever deleted."""
        return self._keep_files is not None or self._keep_size_bytes is not None

    def adopt(self, directory: str, pattern: re.Pattern[str]) -> None:
        """Take over what earlier recordings of the same naming left in `directory`.

        Ordered by the time of the last write, then by name. A file counts as
        ours if its whole name matches and its content says so too.
        """
        found = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if not pattern.fullmatch(entry.name) or not _is_ours(entry.path):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found.append((status.st_mtime_ns, entry.name, entry.path, status.st_size))
        for _, _, path, size in sorted(found):
            self._sizes.setdefault(path, size)

    def add(self, path: str, size_bytes: int) -> None:
        """A file has just been completed: the newest one."""
        if self.limited:
            self._sizes[path] = size_bytes

    def take_excess(self) -> list[str]:
        """The oldest files beyond the limits, which the caller is to delete now."""
        if not self._exceeded():
            return []
        # Files that others moved, compressed or deleted meanwhile make room as well.
        self._refresh()
        excess = []
        while self._exceeded():
            oldest = next(iter(self._sizes))
            del self._sizes[oldest]
            excess.append(oldest)
        return excess

    def _exceeded(self) -> bool:
        if len(self._sizes) < 2:
            return False
        if self._keep_files is not None and len(self._sizes) > self._keep_files:
            return True
        return (
            self._keep_size_bytes is not None and sum(self._sizes.values()) > self._keep_size_bytes
        )

    def _refresh(self) -> None:
        for path in list(self._sizes):
            try:
                self._sizes[path] = os.stat(path, follow_symlinks=False).st_size
            except OSError:
                del self._sizes[path]


def _is_ours(path: str) -> bool:
    """Whether this program wrote the file, as far as its first bytes can tell.

    pcapng names its writer; pcap has no room for that, so nanosecond files of
    this byte order pass, and the name alone must be telling.
    """
    try:
        # Without following a link or waiting for the writer of a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        head = os.read(fd, _HEAD_BYTES)
    except OSError:
        return False
    finally:
        os.close(fd)
    if head[:4] == _PCAP_MAGIC:
        return True
    try:
        (section,) = islice(read_blocks(io.BytesIO(head), tolerant=True), 1)
    except (ValueError, XdpcapError):
        return False
    writer: str = section.options.get("shb_userappl", "")
    return writer.split()[:1] == [_APPLICATION_NAME]
