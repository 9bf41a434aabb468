"""Small processes that outlive the recorder, and put in order what it can't any more.

Such a process waits for the end of its standard input, a pipe that the kernel closes with the
recorder, kill -9 included.  It is started before the recorder gives up root, and so can do what
the recorder no longer could.  A leaf.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import xdpcap


def start(module: str, *arguments: str, pass_fds: Sequence[int] = ()) -> subprocess.Popen[str]:
    """Run a module of this package in a process of its own, its input and output in pipes.

    Raises OSError when it can't be started.
    """
    above = os.path.dirname(os.path.dirname(os.path.abspath(xdpcap.__file__)))
    path = os.pathsep.join(filter(None, [above, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        # Not the directory that the recorder happens to be in: this runs as root.
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
        pass_fds=pass_fds,
    )


def outlive() -> None:
    """For that process: Ctrl-C and a closed terminal are the recorder's, and its pipes may go."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
