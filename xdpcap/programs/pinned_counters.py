"""The counters of a recording, pinned in the BPF file system for other processes.

    /sys/fs/bpf/xdpcap/INTERFACE/counters     the program's counters (a per-CPU array)
                                 owner        a symbolic link; its target describes the recorder
    /sys/fs/bpf/xdpcap/joined:IFINDEX         a symbolic link; its target identifies the member
                                              of libxdp's dispatcher (programs.dispatcher)

Outside the initial network namespace these lie in a subdirectory `netns:INODE`, as two
namespaces may each have an eth0.  `ip netns exec` gives its command a new /sys without a BPF
file system; the one of an ancestor process is then reached through /proc, so that all processes
use the same.

A shell process removes the pins when the recorder ends, kill -9 included: it is started before
the recorder gives up root.  When both were killed, the next process that looks removes the pins:
the owner's process or program no longer exists.

Owner: the main thread.  Frees: remove().

Source relied on: kernel/bpf/inode.c, bpf_lookup() (no dots in names), bpf_dir_iops;
net/core/sysctl_net_core.c, sysctl_core_init().
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from xdpcap.errors import XdpcapError
from xdpcap.net import Link
from xdpcap.options.units import format_number_list, parse_number_list
from xdpcap.programs import counters
from xdpcap.programs.program import Program

BPFFS = Path("/sys/fs/bpf")
BPF_FS_MAGIC = 0xCAFE4A11  # linux/magic.h
# A global sysctl, which exists in the initial network namespace only; /proc/sys/net shows the
# namespace of the reading thread.
INITIAL_NAMESPACE_ONLY = Path("/proc/sys/net/core/netdev_max_backlog")
OWNER, COUNTERS = "owner", "counters"
# Retries: a directory is removed with its last entry, perhaps while another process makes one.
TRIES = 20
REMOVE_TIMEOUT_S = 5.0
# Runs in the directory, so that it can't empty another one.  Its arguments are the names of this
# directory and of those above it, which are removed if empty.
REMOVE = """trap "" INT TERM HUP; read -r nothing; rm -f -- *
for name; do cd -P .. && rmdir -- "$name" || exit; done"""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Owner:
    """A recording's process: `started` in ticks since boot, `since` in seconds since 1970.

    `program` is the id of the XDP program, `queues` a LIST of the recorded queues.  The fields
    are the keys of the JSON in the `owner` link.
    """

    interface: str
    ifindex: int
    queues: str
    program: int
    pid: int
    started: int
    pid_namespace: int
    since: float

    @property
    def queue_numbers(self) -> tuple[int, ...]:
        """The recorded queues."""
        return tuple(parse_number_list(self.queues))

    @property
    def alive(self) -> bool:
        """Whether it still records; a process of another pid namespace counts as alive."""
        if not counters.is_loaded(self.program):
            return False
        return self.pid_namespace != _namespace("pid") or _start_ticks(self.pid) == self.started


@dataclass(frozen=True)
class PinnedRecording:
    """A recording with pinned counters: its directory and its owner."""

    directory: Path
    owner: Owner

    def verdicts(self) -> list[counters.Verdicts]:
        """The program's counters, a `Verdicts` per queue of the device; raises XdpcapError."""
        verdicts: list[counters.Verdicts] = counters.read_pinned_verdicts(
            str(self.directory / COUNTERS)
        )
        return verdicts


class PinnedCounters:
    """The pinned counters of one recording.

    It has its program on the interface, so existing pins are stale and are removed.  Raises
    XdpcapError and OSError; then nothing is pinned.
    """

    def __init__(self, link: Link, program: Program, queues: tuple[int, ...]) -> None:
        self.directory = _own_directory(_base(), link.name)
        _remove(self.directory)
        _make(self.directory)
        self._child: subprocess.Popen[bytes] | None = None
        try:
            self._child = self._start_cleanup()
            owner = Owner(
                interface=link.name,
                ifindex=link.index,
                queues=format_number_list(queues),
                program=counters.program_id(program.fd),
                pid=os.getpid(),
                started=_start_ticks(os.getpid()),
                pid_namespace=_namespace("pid"),
                since=round(time.time(), 3),
            )
            # First, so that pins that are incomplete when this process is killed have an owner.
            os.symlink(json.dumps(asdict(owner)), self.directory / OWNER)
            counters.pin(program.counters_fd, str(self.directory / COUNTERS))
        except BaseException:
            self.remove()
            raise

    def _start_cleanup(self) -> subprocess.Popen[bytes]:
        """Start the shell that removes the pins when its standard input is closed."""
        names = [path.name for path in (self.directory, *_parents(self.directory))]
        return subprocess.Popen(
            ["/bin/sh", "-c", REMOVE, "sh", *names],
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def remove(self) -> None:
        """Remove the pins; call it once, before the interface is free for another recording."""
        try:
            _remove(self.directory)
        except OSError:
            # Root was given up: the shell kept it, and removes the pins.
            if self._child is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._child.communicate(timeout=REMOVE_TIMEOUT_S)
            return
        if self._child is not None:
            # Without this it could remove the next recording's directory while that is empty.
            self._child.kill()
            self._child.communicate()


def find(*, here: bool = True) -> list[PinnedRecording]:
    """The running recordings of this network namespace, or (not `here`) of all.

    Removes stale pins.  Raises XdpcapError without a BPF file system, or without permission to
    read it.
    """
    base = _base()
    found = []
    try:
        for recording in _all(base):
            if recording.owner.alive:
                found.append(recording)
            else:
                with contextlib.suppress(OSError):
                    _remove(recording.directory)
    except PermissionError:
        raise XdpcapError(f"{base} can't be read; run with sudo") from None
    own = _own_directory(base, "any").parent
    return [recording for recording in found if not here or recording.directory.parent == own]


def recorder_pid(link: Link) -> int | None:
    """The process that records an interface; None if there is none or it is unknown."""
    with contextlib.suppress(XdpcapError, OSError):
        for recording in find():
            if recording.owner.ifindex == link.index:
                return recording.owner.pid
    return None


def marker_path(link: Link, name: str) -> Path:
    """The path of a symbolic link about an interface; raises XdpcapError."""
    return _own_directory(_base(), link.name).with_name(f"{name}:{link.index}")


def _all(base: Path) -> Iterator[PinnedRecording]:
    first = _subdirectories(base)
    for directory in sorted([*first, *(d for n in first for d in _subdirectories(n))]):
        try:
            owner = Owner(**json.loads(os.readlink(directory / OWNER)))
        except (FileNotFoundError, ValueError, TypeError):
            continue  # being made or removed, or of another version
        yield PinnedRecording(directory, owner)


def _subdirectories(directory: Path) -> list[Path]:
    try:
        return [entry for entry in directory.iterdir() if entry.is_dir() and not entry.is_symlink()]
    except FileNotFoundError:
        return []


def _base() -> Path:
    if _is_bpffs(BPFFS):
        return BPFFS / "xdpcap"
    for pid in _ancestors():
        path = Path(f"/proc/{pid}/root", *BPFFS.parts[1:])
        if _is_bpffs(path):
            return path / "xdpcap"
    raise XdpcapError(f"no BPF file system on {BPFFS}; `mount -t bpf bpf {BPFFS}` mounts one")


def _ancestors() -> Iterator[int]:
    """The process's parent, its parent, and so on to process 1."""
    pid = os.getppid()
    while pid > 0:
        yield pid
        pid = int(_stat(pid)[1] or 0)


def _is_bpffs(path: Path) -> bool:
    # struct statfs begins with f_type, a long; Python's statvfs() leaves it out.
    result = (ctypes.c_ulong * 32)()
    return _libc.statfs(os.fsencode(path), result) == 0 and result[0] == BPF_FS_MAGIC


def _own_directory(base: Path, interface: str) -> Path:
    """The directory of an interface's recording in this network namespace."""
    quoted = interface.replace("%", "%25").replace(".", "%2E")
    if INITIAL_NAMESPACE_ONLY.exists():
        return base / quoted
    # No interface name has a colon (dev_valid_name()).
    return base / f"netns:{_namespace('net')}" / quoted


def _namespace(kind: str) -> int:
    return os.stat(f"/proc/thread-self/ns/{kind}").st_ino


def _start_ticks(pid: int) -> int:
    """A process's start time in ticks since boot; 0 when there is none, or it has ended."""
    fields = _stat(pid)
    return 0 if fields[0] in ("Z", "X", "") else int(fields[19])


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; empty strings without a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return [""] * 20
    # The second field is the name, which may contain any character.
    return text.rpartition(")")[2].split()


def _make(directory: Path) -> None:
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError):
            directory.mkdir(parents=True)
            return
    raise XdpcapError(f"{directory} can't be made: its parent keeps being removed; try again")


def _remove(directory: Path) -> None:
    """Remove a recording's directory, and those above it that are then empty."""
    with contextlib.suppress(FileNotFoundError):
        for entry in directory.iterdir():
            entry.unlink(missing_ok=True)
        directory.rmdir()
    for parent in _parents(directory):
        with contextlib.suppress(OSError):
            parent.rmdir()


def _parents(directory: Path) -> list[Path]:
    """Our directories above a recording's, deepest first."""
    return [p for p in directory.parents if p.name == "xdpcap" or p.parent.name == "xdpcap"]
