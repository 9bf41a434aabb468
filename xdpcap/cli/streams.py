"""Standard output and standard error that may be closed, full or gone while we write to them."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO

from xdpcap.errors import XdpcapError


def prepare() -> None:
    """Make standard output and error such that printing a name can't fail.

    A descriptor that was closed by the caller (`2>&-`) becomes /dev/null, so
    that no file or socket opened later gets its number and the messages with it.
    """
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)
    # Python has None in place of a stream that was closed at its start.
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        # Names of interfaces and files are bytes to the kernel.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def emit(text: str) -> None:
    """Write `text` to standard output at once; a full disk there is an `XdpcapError`.

    BrokenPipeError passes: that somebody stopped reading is no error to tell.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon(sys.stdout)
        raise XdpcapError(
            f"standard output: {error.strerror}; what should be there is incomplete"
        ) from None


def abandon(stream: TextIO) -> None:
    """Point `stream` at /dev/null: nobody reads it, and the flush at exit must not fail again.

    Only after it failed: whoever reads it later reads nothing.
    """
    # A stream without a descriptor (a test's) has nothing to point elsewhere.
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)


def printable(text: str) -> str:
    """`text` as one line that can't move the cursor: what isn't printable is escaped."""
    return "".join(
        c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode()
        for c in text.strip()
    )


def complain(text: str) -> None:
    """Print `text` as one `xdpcap:` line on standard error; if nobody reads it, silently."""
    remark(f"xdpcap: {printable(text)}")


def remark(text: str) -> None:
    """Print our own words as they are on standard error; if nobody reads it, silently."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        abandon(sys.stderr)
