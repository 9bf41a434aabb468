"""A capture file as a stream of bytes that knows where it is.

Reads forward only, so a pipe or a file that is still being written will do.
One thread; the opener closes.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import BinaryIO

from xdpcap.errors import KernelError, UsageError, XdpcapError

_CHUNK_BYTES = 1 << 20


class DamageError(XdpcapError):
    """A capture file breaks its format: at byte `offset`, because of `cause`."""

    def __init__(self, name: str, offset: int, cause: str) -> None:
        self.offset = offset
        self.cause = cause
        super().__init__(
            f"{name}: damaged at byte {offset}: {cause}; what stands before it is readable"
        )


class Stream:
    """`source` opened for reading: a path, or a binary file object, which stays open on close.

    `offset` counts the bytes read. UsageError if the path can't be opened.
    """

    def __init__(self, source: str | os.PathLike[str] | BinaryIO) -> None:
        self.offset = 0
        self._owned = isinstance(source, (str, os.PathLike))
        if isinstance(source, (str, os.PathLike)):
            self.name = os.fspath(source)
            try:
                self._file: BinaryIO = open(source, "rb")  # noqa: SIM115 (closed by close)
            except OSError as error:
                raise UsageError(
                    f"{self.name}: {error.strerror}; name a pcap or pcapng file"
                ) from error
        else:
            self.name = str(getattr(source, "name", "input"))
            self._file = source

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        if self._owned:
            self._file.close()

    def read(self, length: int) -> bytes:
        """The next `length` bytes, fewer only at the end.

        In chunks: a damaged length of 4 GiB must not cost 4 GiB of memory.
        """
        chunks = []
        left = length
        while left > 0:
            try:
                chunk = self._file.read(min(left, _CHUNK_BYTES))
            except OSError as error:
                raise KernelError(f"read({self.name})", error.errno or 0) from error
            if not chunk:
                break
            chunks.append(chunk)
            left -= len(chunk)
        data = b"".join(chunks)
        self.offset += len(data)
        return data

    def damage(self, offset: int, cause: str) -> DamageError:
        """The error to raise when what begins at `offset` breaks the format."""
        return DamageError(self.name, offset, cause)
