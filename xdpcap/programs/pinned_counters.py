"""What other processes see of a recording: its counters, pinned in the BPF file system.

    /sys/fs/bpf/xdpcap/INTERFACE/counters     the program's counters (a per-CPU array)
                                 owner        a symbolic link whose target tells who records
    /sys/fs/bpf/xdpcap/joined:IFINDEX         another: what a recording has put into libxdp's
                                              dispatcher (dispatcher.py)

In another network namespace than the first the directory is one deeper, below `netns:INODE`:
two namespaces may each have an eth0.  `ip netns exec` gives its command a /sys of its own,
without a BPF file system; that of the shell that it was typed into is then reached through /proc,
so that everybody looks at the same.

A small shell takes the pins away when the recorder ends, kill -9 included: it was started
before the recorder gave up root.  What is left when both were killed is told by its owner, of which
the process or the program has gone, and swept by whoever comes next.

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
# Of the machine as a whole, and so in the first network namespace only; /proc/sys/net shows that
# of the thread that looks.
FIRST_NAMESPACE_ONLY = Path("/proc/sys/net/core/netdev_max_backlog")
OWNER, COUNTERS = "owner", "counters"
# A directory is removed with its last entry, perhaps just when another is to be made in it.
TRIES = 20
REMOVE_TIMEOUT_S = 5.0
# Runs in the directory, so that it can only ever empty that one; given are the names of this and
# of those above it, which go if nothing else is in them.
REMOVE = """trap "" INT TERM HUP; read -r nothing; rm -f -- *
for name; do cd -P .. && rmdir -- "$name" || exit; done"""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Owner:
    """Who records: `started` in ticks since boot, `since` in seconds since 1970.

    `program` is the id of the XDP program, `queues` are those that are recorded, as a list.
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
        """The queues that are recorded."""
        return tuple(parse_number_list(self.queues))

    @property
    def alive(self) -> bool:
        """Whether it still records, as far as can be told from here."""
        if not counters.is_loaded(self.program):
            return False
        return self.pid_namespace != _namespace("pid") or _started(self.pid) == self.started


@dataclass(frozen=True)
class Shown:
    """A recording that has pinned something: its directory and its owner."""

    directory: Path
    owner: Owner

    def verdicts(self) -> list[counters.Verdicts]:
        """The program's counters, a `Verdicts` per queue of the device; raises XdpcapError."""
        found: list[counters.Verdicts] = counters.read_pinned_verdicts(
            str(self.directory / COUNTERS)
        )
        return found


class PinnedCounters:
    """The pins of one recording, which holds the interface: other pins are a dead recording's.

    Raises XdpcapError and OSError, with nothing left.
    """

    def __init__(self, link: Link, program: Program, queues: tuple[int, ...]) -> None:
        self.directory = _own_directory(_base(), link.name)
        _remove(self.directory)
        _make(self.directory)
        self._child: subprocess.Popen[bytes] | None = None
        try:
            self._child = self._guard()
            owner = Owner(
                interface=link.name,
                ifindex=link.index,
                queues=format_number_list(queues),
                program=counters.program_id(program.fd),
                pid=os.getpid(),
                started=_started(os.getpid()),
                pid_namespace=_namespace("pid"),
                since=round(time.time(), 3),
            )
            # First of all, so that what is half made when we are killed has an owner.
            os.symlink(json.dumps(asdict(owner)), self.directory / OWNER)
            counters.pin(program.counters_fd, str(self.directory / COUNTERS))
        except BaseException:
            self.remove()
            raise

    def _guard(self) -> subprocess.Popen[bytes]:
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
        """Take them away; once, and before the interface is free for another recording."""
        try:
            _remove(self.directory)
        except OSError:
            # Root has been given up: the shell has kept it, and has to be waited for.
            if self._child is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._child.communicate(timeout=REMOVE_TIMEOUT_S)
            return
        if self._child is not None:
            # Left to end by itself it could meet the next recording's directory, still empty.
            self._child.kill()
            self._child.communicate()


def find(*, here: bool = True) -> list[Shown]:
    """The recordings that go on, of this network namespace or (not `here`) of all.

    Sweeps what dead ones have left.  Raises XdpcapError without a BPF file system, or without
    the right to look into it.
    """
    base = _base()
    found = []
    try:
        for shown in _all(base):
            if shown.owner.alive:
                found.append(shown)
            else:
                with contextlib.suppress(OSError):
                    _remove(shown.directory)
    except PermissionError:
        raise XdpcapError(f"{base} is not to be read; run with sudo") from None
    own = _own_directory(base, "any").parent
    return [shown for shown in found if not here or shown.directory.parent == own]


def recorder_of(link: Link) -> int | None:
    """The process that records an interface, as far as it can be told; None without one."""
    with contextlib.suppress(XdpcapError, OSError):
        for shown in find():
            if shown.owner.ifindex == link.index:
                return shown.owner.pid
    return None


def place_beside(link: Link, name: str) -> Path:
    """Where a symbolic link about an interface has its place; raises XdpcapError."""
    return _own_directory(_base(), link.name).with_name(f"{name}:{link.index}")


def _all(base: Path) -> Iterator[Shown]:
    for directory in sorted([*_inside(base), *(d for n in _inside(base) for d in _inside(n))]):
        try:
            owner = Owner(**json.loads(os.readlink(directory / OWNER)))
        except (FileNotFoundError, ValueError, TypeError):
            continue  # being made or removed, or another version's
        yield Shown(directory, owner)


def _inside(directory: Path) -> list[Path]:
    try:
        return [entry for entry in directory.iterdir() if entry.is_dir() and not entry.is_symlink()]
    except FileNotFoundError:
        return []


def _base() -> Path:
    if _is_bpffs(BPFFS):
        return BPFFS / "xdpcap"
    for pid in _ancestors():
        place = Path(f"/proc/{pid}/root", *BPFFS.parts[1:])
        if _is_bpffs(place):
            return place / "xdpcap"
    raise XdpcapError(f"no BPF file system on {BPFFS}; `mount -t bpf bpf {BPFFS}` mounts one")


def _ancestors() -> Iterator[int]:
    """The process's parent, its parent, and so on to process 1."""
    pid = os.getppid()
    while pid > 0:
        yield pid
        pid = int(_stat(pid)[1] or 0)


def _is_bpffs(place: Path) -> bool:
    # struct statfs begins with the type, of the size of a long; Python's statvfs() leaves it out.
    answer = (ctypes.c_ulong * 32)()
    return _libc.statfs(os.fsencode(place), answer) == 0 and answer[0] == BPF_FS_MAGIC


def _own_directory(base: Path, interface: str) -> Path:
    """Where this network namespace's recording of an interface is."""
    quoted = interface.replace("%", "%25").replace(".", "%2E")
    if FIRST_NAMESPACE_ONLY.exists():
        return base / quoted
    # No interface has a colon in its name (dev_valid_name()).
    return base / f"netns:{_namespace('net')}" / quoted


def _namespace(kind: str) -> int:
    return os.stat(f"/proc/thread-self/ns/{kind}").st_ino


def _started(pid: int) -> int:
    """When a process began, in ticks since boot; 0 when there is none, or it has ended."""
    fields = _stat(pid)
    return 0 if fields[0] in ("Z", "X", "") else int(fields[19])


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third, its state, on; empty ones without a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return [""] * 20
    # The second is the name, which may have anything in it.
    return text.rpartition(")")[2].split()


def _make(directory: Path) -> None:
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError):
            directory.mkdir(parents=True)
            return
    raise XdpcapError(f"{directory} can't be made: its parent is removed again and again")


def _remove(directory: Path) -> None:
    """A recording's directory, and those above it that are empty then."""
    with contextlib.suppress(FileNotFoundError):
        for entry in directory.iterdir():
            entry.unlink(missing_ok=True)
        directory.rmdir()
    for parent in _parents(directory):
        with contextlib.suppress(OSError):
            parent.rmdir()


def _parents(directory: Path) -> list[Path]:
    """The directories of ours that a recording's is in, the deepest first."""
    return [p for p in directory.parents if p.name == "xdpcap" or p.parent.name == "xdpcap"]
