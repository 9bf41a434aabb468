"""The directory that capture files are recorded into.

A file is born as `name.part`, gets its name when it is complete, and may be
deleted again when there are too many. Any thread may call any method; files
themselves are written by others, through `Part.fd`.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shlex
import stat
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdpcap.errors import KernelError, UsageError, XdpcapError, hint
from xdpcap.savefile.names import PART_SUFFIX
from xdpcap.savefile.post_rotate import PostRotate
from xdpcap.savefile.rename_noreplace import rename_new
from xdpcap.savefile.retention import Retention

_PROBE_BYTES = 4096
# A stop may take two seconds in all.
_CLOSE_TIMEOUT_S = 1.0


@dataclass
class Part:
    """A file being written. `fd` is open until `close`, `complete` or `discard`, then -1.

    `sequence` is the number in its name, which may be higher than asked for.
    """

    path_part: str
    path_final: str
    fd: int
    sequence: int

    def close(self) -> None:
        """Close `fd` if it is open; OSError for data that a network file system lost."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


@dataclass(frozen=True)
class FileRecord:
    """A complete file: its path, its packets, its size in bytes."""

    path: str
    packets: int
    bytes: int


class Directory:
    """Checks `path`, then opens, completes and deletes the files of one recording in it.

    `keep_files` and `keep_size_bytes` limit the complete files: those of this
    recording and those of earlier ones that `pattern` (NameTemplate.pattern)
    matches; no other file is ever touched. `post_rotate` is run on each
    complete file. `report` gets one line for each failure that doesn't stop the
    recording, from any thread.

    Raises UsageError if files can't be written there, XdpcapError if there is
    no space for any. Nothing is left behind by the check.
    """

    def __init__(
        self,
        path: str,
        *,
        report: Callable[[str], None],
        pattern: re.Pattern[str] | None = None,
        keep_files: int | None = None,
        keep_size_bytes: int | None = None,
        post_rotate: Sequence[str] | None = None,
    ) -> None:
        check_directory(path)
        # Absolute: the post-rotate command and the report may be read from elsewhere.
        self.path = os.path.abspath(path)
        self.deleted_count = 0
        self._pattern = pattern
        self._report = report
        self._lock = threading.Lock()
        self._open: set[str] = set()
        self._files: dict[str, FileRecord] = {}
        self._retention = Retention(keep_files, keep_size_bytes)
        if pattern is not None and self._retention.limited:
            try:
                self._retention.adopt(self.path, pattern)
            except OSError as error:
                raise _error("scandir", self.path, error) from error
        self._post_rotate = PostRotate(post_rotate, report) if post_rotate else None

    @property
    def files(self) -> list[FileRecord]:
        """The complete files of this recording that retention has left, oldest first."""
        with self._lock:
            return list(self._files.values())

    @property
    def post_rotate_failure_count(self) -> int:
        """Files on which the post-rotate command failed or was not run."""
        return self._post_rotate.failure_count if self._post_rotate else 0

    def open_part(self, make_name: Callable[[int], str], sequence: int = 1) -> Part:
        """Create the file `make_name(sequence)`, or the next higher sequence that is free.

        UsageError if the name is taken and doesn't change with the sequence,
        KernelError if the file can't be created.
        """
        while True:
            final = os.path.join(self.path, make_name(sequence))
            part = final + PART_SUFFIX
            try:
                if os.path.lexists(final):
                    raise FileExistsError
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                fd = os.open(part, flags, 0o644)
            except FileExistsError:
                if make_name(sequence + 1) == os.path.basename(final):
                    taken = final if os.path.lexists(final) else part
                    raise UsageError(
                        f"{taken}: exists already and is not overwritten; move it away, "
                        "or add {start} or {sequence} to --name"
                    ) from None
                sequence += 1
                continue
            except OSError as error:
                raise _error("open", part, error) from error
            with self._lock:
                self._open.add(part)
            return Part(part, final, fd, sequence)

    def complete(self, part: Part, packets: int, size_bytes: int | None = None) -> FileRecord:
        """Give a file its final name; then delete what is too old, and call the command.

        `size_bytes` is looked up if it is not given. If another file has taken
        the name meanwhile, this one gets a ".1" (or higher) before its
        extension. KernelError if it can't be renamed; it stays a `.part` then.
        """
        self._close_part(part)
        try:
            if size_bytes is None:
                size_bytes = os.stat(part.path_part).st_size
            path = self._rename(part)
        except OSError as error:
            raise _error("rename", part.path_part, error) from error
        record = FileRecord(path, packets, size_bytes)
        with self._lock:
            self._open.discard(part.path_part)
            self._files[path] = record
            self._retention.add(path, size_bytes)
            excess = self._retention.take_excess()
        if self._post_rotate:
            self._post_rotate.submit(path)
        for old in excess:
            self._delete(old)
        return record

    def discard(self, part: Part) -> None:
        """Delete a file that is not worth its name, for it holds no packet."""
        try:
            self._close_part(part)
            os.unlink(part.path_part)
        except FileNotFoundError:
            pass  # deleted by hand, which is what was wanted
        except OSError as error:
            raise _error("unlink", part.path_part, error) from error
        finally:
            with self._lock:
                self._open.discard(part.path_part)

    def stale_parts(self) -> list[str]:
        """`.part` files of our naming that this recording doesn't write: a killed one left them.

        They are readable up to its last flush, and left alone.
        """
        if self._pattern is None:
            return []
        try:
            names = [name for name in os.listdir(self.path) if name.endswith(PART_SUFFIX)]
        except OSError:
            return []  # writable but not readable, so nobody could read them either
        ours = (name for name in names if self._pattern.fullmatch(name.removesuffix(PART_SUFFIX)))
        with self._lock:
            return sorted({os.path.join(self.path, name) for name in ours} - self._open)

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> None:
        """Wait for post-rotate commands, at most `timeout_s`; what is left goes on. Idempotent."""
        if self._post_rotate:
            self._post_rotate.close(timeout_s)

    def _close_part(self, part: Part) -> None:
        try:
            part.close()
        except OSError as error:
            raise _error("close", part.path_part, error) from error

    def _rename(self, part: Part) -> str:
        target, number = part.path_final, 0
        while True:
            try:
                rename_new(part.path_part, target)
            except FileExistsError:
                number += 1
                stem, extension = os.path.splitext(part.path_final)
                target = f"{stem}.{number}{extension}"
                continue
            if number:
                self._report(f"{part.path_final}: taken by another file; recorded as {target}")
            return target

    def _delete(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._report(f"{path}: can't be deleted to make room: {error.strerror}")
            return
        with self._lock:
            self._files.pop(path, None)
            self.deleted_count += 1


def check_directory(path: str) -> None:
    """Raise unless a file can be created and written in the directory `path` by this user.

    Found out by doing it: permissions don't tell of read-only and full file
    systems, quotas or file-size limits, nor bind root.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such directory; mkdir -p {shlex.quote(path)}") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; choose another directory") from error
    if not stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{path}: not a directory; name the directory to write files into")
    try:
        _write_probe(path)
    except OSError as error:
        raise _probe_error(path, error) from error


def _write_probe(path: str) -> None:
    """Write one block to a file that has no name, or where that can't be, one deleted at once."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    name = ""
    try:
        fd = os.open(path, flags | os.O_TMPFILE, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise
        name = os.path.join(path, f".xdpcap-{secrets.token_hex(8)}")
        fd = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(fd, bytes(_PROBE_BYTES))
    finally:
        os.close(fd)
        if name:
            os.unlink(name)


def _probe_error(path: str, error: OSError) -> XdpcapError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return UsageError(
            f"{path}: not writable for user id {os.geteuid()}; "
            "change its owner or mode, or choose another directory"
        )
    if error.errno == errno.EROFS:
        return UsageError(
            f"{path}: on a read-only file system; remount it or choose another directory"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _error("write", path, error)
    return UsageError(
        f"{path}: no file can be created there ({error.strerror}); choose another directory"
    )


def _error(call: str, path: str, error: OSError) -> KernelError:
    number = error.errno or errno.EIO
    return KernelError(f"{call}({path})", number, hint(number, "file"))
