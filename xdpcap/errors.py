"""Every error a user can cause, as one line that names the cause and the way out.

The command line prints ``str(error)`` and exits with ``error.exit_code``:
2 for what was asked wrongly (usage), 1 for what went wrong while running.
"""

from __future__ import annotations

import errno as _errno
import os
import traceback

# Linux has one number for two names, and Python picks the one that no manual page uses.
_NAMES = {_errno.EOPNOTSUPP: "EOPNOTSUPP"}


class XdpcapError(Exception):
    """A run-time failure: exit code 1."""

    exit_code = 1


class UsageError(XdpcapError):
    """The request itself can't be carried out as asked: exit code 2."""

    exit_code = 2


class KernelError(XdpcapError):
    """A failed system call or library call.

    `call` is the call with the arguments that matter, `number` the positive
    errno, `hint` the likely cause or the way out.
    """

    def __init__(self, call: str, number: int, hint: str = "") -> None:
        self.call = call
        self.errno = abs(number)
        self.hint = hint
        name = _NAMES.get(self.errno) or _errno.errorcode.get(self.errno, str(self.errno))
        text = f"{call}: {name} ({os.strerror(self.errno)})"
        super().__init__(f"{text}; {hint}" if hint else text)


def explain(exc: BaseException) -> str:
    """One line about any exception that ended a thread or a command."""
    if isinstance(exc, (XdpcapError, OSError)):
        return str(exc)
    if isinstance(exc, MemoryError):
        return "out of memory; end other programs, or use fewer queues or less --umem-size"
    frames = traceback.extract_tb(exc.__traceback__)
    place = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"
    return (
        f"{type(exc).__name__} at {place}: {exc}; this is a mistake in xdpcap, "
        "please report it with the output of the same command under XDPCAP_DEBUG=1"
    )


# What to do about an errno, by what failed.
_HINTS = {
    "write": {
        _errno.EFBIG: "raise the file-size limit with `ulimit -f`",
        _errno.ENOSPC: "free some space or use --keep-size",
        _errno.EDQUOT: "raise the quota or use --keep-size",
        _errno.EIO: "look for disk errors in `dmesg`",
        _errno.EPIPE: "the reader has gone",
        _errno.ETIMEDOUT: "its reader has stopped reading",
    },
    "file": {
        _errno.ENOSPC: "the disk is full; free some space or choose another directory",
        _errno.EDQUOT: "the disk quota is used up; free some space or choose another directory",
        _errno.EFBIG: "the file-size limit is reached; raise it with ulimit -f",
        _errno.EMFILE: "too many open files; raise the limit with ulimit -n",
        _errno.ENFILE: "the machine has too many open files; raise fs.file-max",
        _errno.ENOENT: "the directory or the file was removed or moved; put it back",
        _errno.EACCES: "the directory is not writable; change its owner or mode",
        _errno.EROFS: "the file system is read-only now; look for disk errors in dmesg",
        _errno.ENAMETOOLONG: "the name is too long; shorten --name",
    },
    "listen": {
        _errno.EADDRINUSE: "somebody listens there already, another recorder? choose another port",
        _errno.EADDRNOTAVAIL: "no address of this machine; `ip address` lists them",
        _errno.EACCES: "ports below 1024 are for root; choose another port",
    },
}


def hint(number: int, topic: str) -> str:
    """The likely cause of an errno and the way out; "" where there is nothing to say.

    `topic`: "write" for the packets of a capture file, "file" for what is done to files and
    directories, "listen" for a listening socket.
    """
    return _HINTS[topic].get(number, "")
