"""Renames a file without ever replacing another one.

`os.rename` replaces what is there, and Python has no renameat2(2), so that
is called through the C library.
"""

from __future__ import annotations

import ctypes
import errno
import os

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1

# The file system, the kernel or the C library can't do it: try the next way.
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK}

_libc = ctypes.CDLL(None, use_errno=True)


def rename_new(source: str, target: str) -> None:
    """Rename `source` to `target`; FileExistsError if that exists, other OSErrors as they come.

    renameat2 with RENAME_NOREPLACE where the file system has it (ext4, XFS,
    Btrfs, tmpfs), else link(2) and unlink(2), which have the same effect, else
    (FAT, some network file systems) a check just before a plain rename.
    """
    for way in (_renameat2, _link, _check):
        try:
            way(source, target)
            return
        except OSError as error:
            if error.errno not in _UNSUPPORTED or way is _check:
                raise


def _renameat2(source: str, target: str) -> None:
    try:
        function = _libc.renameat2
    except AttributeError:  # a C library older than glibc 2.28
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    old, new = os.fsencode(source), os.fsencode(target)
    if function(_AT_FDCWD, old, _AT_FDCWD, new, _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, target)


def _link(source: str, target: str) -> None:
    os.link(source, target, follow_symlinks=False)
    os.unlink(source)


def _check(source: str, target: str) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source, None, target)
    os.rename(source, target)
