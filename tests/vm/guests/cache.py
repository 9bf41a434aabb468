"""Where downloads and images are kept, and the error that says why something can't be had."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class GuestError(Exception):
    """A guest can't be had: one line with the cause, and the way out where there is one."""


def cache_dir() -> Path:
    """The cache: XDPCAP_VM_CACHE, or xdpcap/vm below the user's cache directory."""
    if named := os.environ.get("XDPCAP_VM_CACHE"):
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "xdpcap" / "vm"


@contextlib.contextmanager
def locked(cache: Path) -> Iterator[None]:
    """One at a time changes what is in the cache; the others wait."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
