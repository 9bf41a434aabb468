"""Where downloads and images are kept, and the error that says why something can't be had."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# A directory without a lock that is older was left between two calls by a run that was killed.
YOUNG_S = 60.0


class GuestError(Exception):
    """A guest can't be had: one line with the cause, and the way out where there is one."""

    exit_code = 1


class AskedWrongly(GuestError):
    """A kernel, NICs or tests that there are not."""

    exit_code = 2


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


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory for what a guest leaves, for so long; `keep` moves it away before.

    It is locked by whoever uses it, so that what a killed run has left is told from what is in
    use, and removed here.
    """
    cache_dir().mkdir(parents=True, exist_ok=True)
    for left in cache_dir().glob("run-*"):
        if _is_left(left):
            shutil.rmtree(left, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=cache_dir()))
    try:
        with open(directory / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def keep(directory: Path, name: str) -> Path:
    """Keep a scratch directory as failed-NAME, in the place of the last one; its new path."""
    kept = directory.with_name(f"failed-{name}")
    shutil.rmtree(kept, ignore_errors=True)
    return directory.rename(kept)


def _is_left(directory: Path) -> bool:
    """Whether nobody holds the lock; one that is just being made counts as held."""
    try:
        with open(directory / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        return time.time() - directory.stat().st_mtime > YOUNG_S
    except OSError:
        return False
