"""Network namespaces: going into one, and naming the one on the other side of a link.

A namespace belongs to a thread, not to a process. `enter` moves the calling thread; threads that
it starts later begin in the same namespace, threads that run already stay where they are. The
command line therefore enters before it starts anything, and never leaves again. `call_in` asks
one question elsewhere from a thread made for it, so that the caller never moves.

Sockets stay in the namespace they were opened in. /sys is not touched: it shows the namespace it
was mounted in, which is why this package asks netlink and ethtool and never sysfs.

A namespace is written as `ip netns` does: a name in /run/netns, or a path (with a slash) such as
/proc/1/ns/net.
"""

from __future__ import annotations

import ctypes
import difflib
import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from xdpcap.errors import KernelError, UsageError

RUN_NETNS = Path("/run/netns")
INITIAL = "/proc/1/ns/net"
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def names() -> list[str]:
    """The namespaces that have a name, sorted."""
    try:
        return sorted(entry.name for entry in RUN_NETNS.iterdir())
    except OSError:
        return []


def path_of(name: str) -> Path:
    """Where the namespace's file is; `name` is a name in /run/netns or a path with a slash."""
    return Path(name) if "/" in name else RUN_NETNS / name


def command_in(name: str | None, command: str) -> str:
    """`command` as it is typed to run in that namespace; None is the one it is typed in."""
    if name is None:
        return command
    if "/" in name:
        return f"nsenter --net={name} {command}"
    return f"ip netns exec {name} {command}"


def enter(name: str) -> None:
    """Move the calling thread, and the threads it starts from now on, into a namespace.

    Threads that exist already stay behind. Raises `UsageError` for a namespace that is not there
    (naming those that are) or a file that is none, `KernelError` without CAP_SYS_ADMIN.
    """
    fd = _open(name)
    try:
        if _libc.setns(fd, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            if number == errno.EINVAL:
                raise UsageError(f"{path_of(name)} is no network namespace; `ip netns` lists them")
            raise KernelError(f"setns({path_of(name)})", number, "CAP_SYS_ADMIN is needed")
    finally:
        os.close(fd)


def call_in(name: str | None, function: Callable[..., T], *args: Any) -> T:
    """`function(*args)` in a namespace, without moving the caller; None is the caller's own.

    Runs in a thread of its own and waits for it; what it raises is raised here. What it opens
    belongs to that namespace for good.
    """
    if name is None:
        return function(*args)
    results: list[T] = []
    failures: list[BaseException] = []

    def visit() -> None:
        try:
            enter(name)
            results.append(function(*args))
        except BaseException as exc:  # handed to the caller below, whatever it is
            failures.append(exc)

    visitor = threading.Thread(target=visit, name=f"netns {name}", daemon=True)
    visitor.start()
    visitor.join()
    if failures:
        raise failures[0]
    return results[0]


def name_of_id(netns_id: int) -> str | None:
    """The name (or path) of the namespace that this namespace knows under a netlink id.

    Such ids (IFLA_LINK_NETNSID) mean something only in the namespace that was asked. None when
    it has no name in /run/netns and is not the one of process 1, as with most containers.
    """
    candidates = [*names(), INITIAL]
    with IPRoute() as ipr:
        for candidate in candidates:
            try:
                fd = os.open(path_of(candidate), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                answer = ipr.get_netnsid(fd=fd)
            except NetlinkError:
                continue  # a plain file that lies in /run/netns
            finally:
                os.close(fd)
            if answer is not None and answer["nsid"] == netns_id:
                return candidate
    return None


def _open(name: str) -> int:
    path = path_of(name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise UsageError(_unknown(name)) from None
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:
            raise UsageError(_unknown(name)) from None
        raise KernelError(f"open({path})", exc.errno or 0) from exc
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(_unknown(name))
    return fd


def _unknown(name: str) -> str:
    there = names()
    near = difflib.get_close_matches(name, there, n=1)
    guess = f"; did you mean {near[0]}?" if near else ""
    listing = ", ".join(there) if there else "none"
    return f"no network namespace {name!r}{guess} (there are: {listing}); `ip netns add` makes one"
