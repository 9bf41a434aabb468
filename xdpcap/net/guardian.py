"""Restores changed offloads whatever becomes of the recorder, kill -9 included.

The changes are made here; a small process of its own is told of them before they are
made, and waits for the end of a pipe that the kernel closes with the recorder.  It is
started before the recorder gives up root, so it can restore what the recorder no longer
could.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterable

from xdpcap.net.offloads import OffloadFixes, Spoiler

log = logging.getLogger(__name__)

RESTORE_TIMEOUT_S = 10.0


class Guardian:
    """Context manager: offloads off on entry, as they were on exit.

    `left` are the spoilers that could not be mended.
    """

    def __init__(self, found: Iterable[Spoiler], own_netns: str | None) -> None:
        self._found = list(found)
        self._own_netns = own_netns
        self._child: subprocess.Popen[str] | None = None
        self._fixes = OffloadFixes()
        self.left: list[Spoiler] = []

    def __enter__(self) -> Guardian:
        planned = self._fixes.plan(self._found, self._own_netns)
        if planned:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "xdpcap.net.guardian"],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            assert self._child.stdin is not None
            # It lies in the pipe, and is read even if this process is gone by then.
            self._child.stdin.write(json.dumps(planned) + "\n")
            self._child.stdin.flush()
        self.left = self._fixes.apply(self._found, self._own_netns)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._child is None:
            return
        try:
            _, said = self._child.communicate(timeout=RESTORE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.warning("the offloads are not restored after %g s", RESTORE_TIMEOUT_S)
            return
        if self._child.returncode:
            # Killed, or never started: what it would have done is done here.
            self._fixes.restore()
        for line in said.splitlines():
            log.info("%s", line)


def _wait_and_restore() -> None:
    # Ctrl-C and a closed terminal reach the recorder; this process outlives it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # The recorder's end of the pipe may have gone when there is something to say.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.raiseExceptions = False
    changes = json.loads(sys.stdin.readline())
    sys.stdin.read()
    OffloadFixes.from_changes(changes).restore()


if __name__ == "__main__":
    _wait_and_restore()
