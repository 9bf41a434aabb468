"""Network namespaces: make, enter with one thread, remove, clear up after the dead.

Names are ``xdpcap-PID-COUNT-SIDE``: the process that made a namespace can be read from
its name, so that `sweep` can tell what a killed process left behind.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

import pyroute2.netns

from xdpcap.errors import KernelError, XdpcapError
from xdpcap.net import netns

T = TypeVar("T")

PREFIX = "xdpcap-"
CHILD_TIMEOUT_S = 60
_NAME = re.compile(rf"{PREFIX}(?P<pid>\d+)-\d+-(rx|tx)")
_counter = itertools.count()


def new_names() -> tuple[str, str]:
    """Two names that no other process and no other call of this one uses."""
    stem = f"{PREFIX}{os.getpid()}-{next(_counter)}"
    return f"{stem}-rx", f"{stem}-tx"


def create(name: str) -> None:
    """Make a namespace.  Raises KernelError."""
    # pyroute2 forks for it, and gives the child 2 s: too few on a machine with much else to do.
    pyroute2.config.default_communicate_timeout = CHILD_TIMEOUT_S
    try:
        pyroute2.netns.create(name)
    except OSError as exc:
        hint = "needs CAP_SYS_ADMIN; run with sudo" if exc.errno == errno.EPERM else ""
        raise KernelError(f"creating the namespace {name}", exc.errno or 0, hint) from None
    # pyroute2 makes it in a child process; what the child could not do shows only here.
    if name not in netns.names():
        raise XdpcapError(f"the namespace {name} could not be made; run as root")


def remove(name: str) -> None:
    """Remove a namespace's name; one that has gone already is no error."""
    with contextlib.suppress(FileNotFoundError):
        pyroute2.netns.remove(name)


def in_netns(name: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run ``function(*args, **kwargs)`` in a thread inside the namespace `name`.

    Returns what it returns and raises what it raises.  A process that the function
    starts is inside the namespace as well; the caller stays where it is.  Raises
    UsageError when there is no such namespace.

    /proc/sys/net follows the thread; /sys/class/net and /proc/net do not, they show
    the namespace of the mount and of the process.
    """
    return netns.call_in(name, functools.partial(function, *args, **kwargs))


def sweep() -> list[str]:
    """Remove the namespaces of processes that no longer live; returns their names.

    The veth pair goes with its namespace.
    """
    swept = []
    for name in netns.names():
        match = _NAME.fullmatch(name)
        if match and not os.path.exists(f"/proc/{match['pid']}"):
            remove(name)
            swept.append(name)
    return swept
