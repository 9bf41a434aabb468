"""Start the command in a process that has imported it already.

Importing takes most of a start: half a second, and 5 s in an emulated guest.  The tests
start the command a thousand times, so one process imports it once and forks for each; the
child has the namespace, directory, environment and descriptors that it is given, becomes
this process's own child, and runs what `python -m xdpcap` runs.  `python -m xdpcap` itself
is started where a test wants another environment (tests/support/patched_command.py) or limits.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "xdpcap")
CLONE_NEWNET = 0x40000000
PR_SET_CHILD_SUBREAPER = 36
REQUEST_BYTES = 1 << 18
# The namespace, then standard input, output and error.
DESCRIPTORS = 4

_libc = ctypes.CDLL(None, use_errno=True)
_lock = threading.Lock()


def sanitizer() -> dict[str, str]:
    """The environment that puts AddressSanitizer under our own code (see conftest.py)."""
    preload = os.environ.get("XDPCAP_TEST_PRELOAD")
    return {"LD_PRELOAD": preload} if preload else {}


class Forked(subprocess.Popen):
    """`Popen` of `[*COMMAND, ...]`, without the import.

    Everything else is Popen's own; preexec_fn, shell and the like are not looked at.
    """

    # Popen's one hook; these arguments stand where they do since Python 3.9.
    def _execute_child(self, *given: Any) -> None:
        args, cwd, env, pipes = given[0], given[5], given[6], given[10:16]
        assert tuple(args[:3]) == COMMAND, args
        request = {
            "args": [str(word) for word in args[3:]],
            "cwd": str(cwd or os.getcwd()),
            "env": dict(os.environ if env is None else env),
        }
        to_child = (pipes[0], pipes[3], pipes[5])
        with _lock, contextlib.ExitStack() as stack:
            net = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, net)
            standard = [own if fd < 0 else fd for own, fd in enumerate(to_child)]
            self.pid = _adopt(request, [net, *standard])
        self._child_created = True
        self._close_pipe_fds(*pipes)


def start(arguments: Sequence[object], **options: Any) -> subprocess.Popen[Any]:
    """`xdpcap ARGUMENTS...` in a process of its own, with `Popen`'s options."""
    return Forked([*COMMAND, *map(str, arguments)], cwd=ROOT, **options)


def execute(arguments: Sequence[object], env: dict[str, str], **options: Any) -> Any:
    """The same by `python -m xdpcap`, for what can't be set in a fork: `env`, preexec_fn."""
    env = {**os.environ, **sanitizer(), **env}
    return subprocess.Popen([*COMMAND, *map(str, arguments)], cwd=ROOT, env=env, **options)


def _adopt(request: dict[str, Any], descriptors: list[int]) -> int:
    """Have the command started as a child of this process; its process id."""
    parent = importer()
    # The child's parent ends at once; the child then falls to the nearest subreaper.  Only
    # for so long: what a child leaves behind is not ours to wait for.
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        packed = array.array("i", descriptors)
        parent.sendmsg(
            [json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)]
        )
        pid = int(parent.recv(32))
        while _parent_of(pid) != os.getpid():
            time.sleep(0.0002)
    finally:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    parent.send(b"go")
    return pid


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@functools.cache
def importer() -> socket.socket:
    """The process that has imported the command, started at the first use."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, REQUEST_BYTES)
    process = subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno())],
        cwd=ROOT,
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **sanitizer()},
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# --- in the process that imports


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for every request; returns in each child what it is to do, and in the end None."""
    while True:
        words, rights, _, _ = requests.recvmsg(REQUEST_BYTES, 64, socket.MSG_CMSG_CLOEXEC)
        if not words:
            return None
        descriptors = array.array("i")
        descriptors.frombytes(rights[0][2])
        between = os.fork()
        if between:
            for descriptor in descriptors:
                os.close(descriptor)
            os.waitpid(between, 0)
            requests.recv(2)  # it has its new parent
            continue
        child = os.fork()
        if child:
            requests.send(str(child).encode())
            os._exit(0)
        requests.close()
        request: dict[str, Any] = json.loads(words)
        _libc.setns(descriptors[0], CLONE_NEWNET)
        for number, descriptor in enumerate(descriptors[1:DESCRIPTORS]):
            os.dup2(descriptor, number)
        for descriptor in descriptors:
            os.close(descriptor)
        return request


def _standard_streams() -> None:
    """What Python makes of the three descriptors at its start."""
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    output, error = open(1, "wb", closefd=False), open(2, "wb", closefd=False)  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(output, write_through=unbuffered)
    sys.stderr = io.TextIOWrapper(error, line_buffering=True)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr


def import_all() -> None:
    """Import every module of the package: subcommands import theirs when they are chosen."""
    import xdpcap

    for module in pkgutil.walk_packages(xdpcap.__path__, "xdpcap."):
        importlib.import_module(module.name)


def main() -> None:
    # As `python -m` has it.
    sys.path[0] = str(ROOT)
    import_all()
    from xdpcap.__main__ import main as command

    # What is there already is not looked through for garbage, and so not copied, in each child.
    gc.freeze()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        return
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    _standard_streams()
    sys.argv = [sys.modules[command.__module__].__file__ or "", *request["args"]]
    command()


if __name__ == "__main__":
    main()
