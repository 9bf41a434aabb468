"""Places to record to that are small, full, or somebody else's."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

NOBODY = pwd.getpwnam("nobody")


@contextlib.contextmanager
def mounted(directory: Path, *arguments: str) -> Iterator[Path]:
    """`mount ARGUMENTS DIRECTORY` for as long as it is needed."""
    directory.mkdir(exist_ok=True)
    subprocess.run(["mount", *arguments, str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextlib.contextmanager
def small_tmpfs(directory: Path, options: str) -> Iterator[Path]:
    """A file system in memory; `options` are those of mount, such as "size=4m"."""
    with mounted(directory, "-t", "tmpfs", "-o", options, "none"):
        yield directory


@contextlib.contextmanager
def small_ext4(directory: Path, size: str) -> Iterator[Path]:
    """An empty file system that takes O_DIRECT, in a file beside `directory`; it has no reserve."""
    image = directory.with_suffix(".ext4")
    subprocess.run(["truncate", "-s", size, str(image)], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    with mounted(directory, "-o", "loop", str(image)):
        (directory / "lost+found").rmdir()
        yield directory


def directory_of_nobody(parent: Path) -> Path:
    """A directory in a test's own that the user nobody owns and can reach."""
    directory = parent / "nobodys"
    directory.mkdir()
    os.chown(directory, NOBODY.pw_uid, NOBODY.pw_gid)
    for above in directory.parents:
        # pytest makes its directories for their owner alone.
        if above.stat().st_uid == os.getuid() and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o111)
    return directory
