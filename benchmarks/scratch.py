"""Temporary directories for the large files of one run; none may be left behind."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "xdpcap-bench-"
_NAME = re.compile(rf"{PREFIX}(?P<pid>\d+)-")


@contextlib.contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A new directory in `parent`, removed with its content afterwards."""
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def sweep(parent: Path) -> None:
    """Remove the directories of killed processes from `parent`."""
    for path in parent.glob(f"{PREFIX}*"):
        match = _NAME.match(path.name)
        if match and not os.path.exists(f"/proc/{match['pid']}"):
            shutil.rmtree(path, ignore_errors=True)
