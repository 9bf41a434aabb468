"""Where a capture's bytes come from: a file, standard input, either of them compressed.

gzip and Zstandard are recognised by their first bytes, never by the name.  What has to
be decompressed, and what can't be looked at without being taken (a pipe), is pumped
into a pipe of its own by a daemon thread; memory stays bounded by the pipe and one
piece.  The thread ends by itself when either end is closed.

Source relied on: RFC 1952 (gzip members), RFC 8878 (Zstandard frames), pipe(7).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import zlib
from collections.abc import Callable, Iterator

import zstandard

from xdpcap.errors import KernelError, UsageError, XdpcapError
from xdpcap.host.threads import ThreadGroup, failure_line

STDIN = "-"
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# A skippable frame's magic: its lowest four bits are free (RFC 8878 section 3.1.2).
ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
MAGIC_BYTES = 4

READ_BYTES = 1 << 18
WRITE_BYTES = 1 << 18
PIPE_BYTES = 1 << 20  # the most that an unprivileged process may ask for
# Small steps, so that damage is placed well, and because libzstd hands out all that its
# input yields: a block of 4 bytes can stand for 128 KiB, so 2 KiB for 64 MiB.
GZIP_STEP_BYTES = 1 << 14
ZSTD_STEP_BYTES = 1 << 11


class Source:
    """An open capture: `fd` to read from, `name` for messages.

    The descriptor belongs to whoever takes it.  Unpacks as ``fd, name``.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        self._damage: str | None = None

    @property
    def damage(self) -> str | None:
        """What is wrong with the compressed stream, one line, or None.

        Final once `fd` has been read to its end.  What could be decompressed before the
        damage has been handed out.
        """
        return self._damage

    def __iter__(self) -> Iterator[int | str]:
        yield self.fd
        yield self.name


class _Damage(Exception):
    """A compressed stream that breaks its format."""


def open_source(path: str) -> Source:
    """Open a capture for reading from its start; "-" is standard input.

    UsageError for what can't be opened or is no file: one line with the way out.
    """
    fd, name = _open_stdin() if path == STDIN else _open_path(path)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            head = _take_head(fd)
            return _pump(fd, name, _unpacker(head), head)
        unpack = _unpacker(os.pread(fd, MAGIC_BYTES, os.lseek(fd, 0, os.SEEK_CUR)))
        return Source(fd, name) if unpack is _as_it_is else _pump(fd, name, unpack, b"")
    except OSError as error:
        os.close(fd)
        raise KernelError(f"read({name})", error.errno or 0) from error


def _open_path(path: str) -> tuple[int, str]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        cause = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise UsageError(f"{path}: {cause}; name a capture file") from error
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(f"{path}: a directory; name the capture files in it")
    return fd, path


def _open_stdin() -> tuple[int, str]:
    name = "standard input"
    try:
        # Its own descriptor: 0 stays as it is for whoever else looks at it.
        fd = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}; send a capture into it") from error
    if os.isatty(fd):
        os.close(fd)
        raise UsageError(f"{name}: a terminal; send a capture into it, or name a file")
    return fd, name


def _take_head(fd: int) -> bytes:
    """The first bytes of what can be read only once; all of it when it is shorter."""
    head = b""
    while len(head) < MAGIC_BYTES and (more := os.read(fd, MAGIC_BYTES - len(head))):
        head += more
    return head


# -- the thread ---------------------------------------------------------------------------------


class _Stored:
    """Stored bytes: `head`, then what `fd` holds; `offset` is of the next one."""

    def __init__(self, fd: int, head: bytes) -> None:
        self._fd = fd
        self._piece = memoryview(head)
        self._at = 0
        self.offset = 0

    def take(self, most: int) -> memoryview:
        """At least one byte, and no more than `most`; none at the end."""
        if self._at == len(self._piece):
            self._piece, self._at = memoryview(os.read(self._fd, READ_BYTES)), 0
        taken = self._piece[self._at : self._at + most]
        self._at += len(taken)
        self.offset += len(taken)
        return taken

    def put_back(self, count: int) -> None:
        """Take the last `count` bytes again; they were taken in one go."""
        self._at -= count
        self.offset -= count


Unpack = Callable[[_Stored], Iterator[bytes | memoryview]]


def _pump(fd: int, name: str, unpack: Unpack, head: bytes) -> Source:
    """A pipe that a thread fills with what `head` and then `fd` hold, unpacked."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # EPERM: the user's pipes hold enough already
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    source = Source(reading, name)
    pump = ThreadGroup().add(
        f"read {name}", lambda: _run(source, fd, writing, unpack, head), may_stay=True
    )
    try:
        pump.start()
    except XdpcapError:
        for descriptor in (fd, reading, writing):
            os.close(descriptor)
        raise
    return source


def _run(source: Source, fd: int, writing: int, unpack: Unpack, head: bytes) -> None:
    stored = _Stored(fd, head)
    try:
        for piece in unpack(stored):
            _write(writing, piece)
    except BrokenPipeError:
        pass  # The reader has what it wants.
    except (_Damage, OSError) as error:
        cause = error.strerror if isinstance(error, OSError) else str(error)
        source._damage = f"{source.name}: {cause}, before offset {stored.offset}"
    except MemoryError:
        source._damage = f"{source.name}: no memory to decompress it, at offset {stored.offset}"
    except BaseException as error:
        source._damage = f"{source.name}: {failure_line(error)}"
    finally:
        # Last, so that whoever sees the end of the pipe sees the damage as well.
        os.close(fd)
        os.close(writing)


def _write(fd: int, piece: bytes | memoryview) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view[:WRITE_BYTES]) :]


# -- formats ------------------------------------------------------------------------------------


def _unpacker(head: bytes) -> Unpack:
    """What turns stored bytes that begin with `head` into a capture's."""
    if head.startswith(GZIP_MAGIC):
        return _gunzip
    skippable = head[:1] and head[0] >> 4 == 5 and head[1:4] == ZSTD_SKIPPABLE
    return _unzstd if head.startswith(ZSTD_MAGIC) or skippable else _as_it_is


def _as_it_is(stored: _Stored) -> Iterator[memoryview]:
    while piece := stored.take(READ_BYTES):
        yield piece


def _gunzip(stored: _Stored) -> Iterator[bytes]:
    """Every member, one after the other."""
    while _at_member(stored):
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        full = False
        while not member.eof:
            # A full piece may have left something behind that needs no further input.
            data: bytes | memoryview = member.unconsumed_tail
            if not data and not full and not (data := stored.take(GZIP_STEP_BYTES)):
                raise _Damage("the gzip stream breaks off")
            before = member.copy()
            try:
                piece = member.decompress(data, WRITE_BYTES)
            except zlib.error as error:
                stored.put_back(len(data))
                yield from _last_bytes(stored, before)
                raise _Damage(f"damaged gzip stream ({error})") from error
            full = len(piece) == WRITE_BYTES
            yield piece
        stored.put_back(len(member.unused_data))


def _last_bytes(stored: _Stored, member: zlib._Decompress) -> Iterator[bytes]:
    """What a damaged step yields before the damage: zlib drops it, so byte by byte."""
    while data := stored.take(1):
        try:
            yield member.decompress(data)
        except zlib.error:
            return


def _at_member(stored: _Stored) -> bool:
    """Whether another gzip member follows; zeros may fill up the end, tapes do that."""
    while data := bytes(stored.take(GZIP_STEP_BYTES)):
        rest = data.lstrip(b"\0")
        stored.put_back(len(rest))
        if rest and rest[0] != GZIP_MAGIC[0]:
            raise _Damage("something that is not gzip follows the gzip stream")
        if rest:
            return True
    return False


def _unzstd(stored: _Stored) -> Iterator[bytes]:
    """Every frame, one after the other.

    What a step yields before damage in it is lost: libzstd keeps it to itself.
    """
    while data := stored.take(ZSTD_STEP_BYTES):
        frame = zstandard.ZstdDecompressor().decompressobj()
        while True:
            try:
                piece = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise _Damage(f"damaged Zstandard stream ({error})") from error
            yield piece
            if frame.eof:
                break
            if not (data := stored.take(ZSTD_STEP_BYTES)):
                raise _Damage("the Zstandard stream breaks off")
        stored.put_back(len(frame.unused_data))
