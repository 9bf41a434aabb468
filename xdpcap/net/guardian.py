"""Restore the host settings that a recording changed, even after kill -9.

The changes are made here. One helper process (`host.helper_process`) is told of each change before
it is made, and restores them all when the recorder has ended.  A kind of change is a class with
the interface `Change`, and a line in KINDS.
"""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Protocol

from xdpcap.host import helper_process
from xdpcap.net.offloads import OffloadFixes
from xdpcap.net.rss import SymmetricRss
from xdpcap.net.timestamping import ReceiveStamping

log = logging.getLogger(__name__)

RESTORE_TIMEOUT_S = 10.0


class Restorable(Protocol):
    """What can be put back."""

    def restore(self) -> None:
        """Put back what was changed; never raises, and is harmless where nothing was."""


class Change(Restorable, Protocol):
    """Something of the host that is to be otherwise until the recording ends.

    `kind` is its name in KINDS.
    """

    kind: str

    def plan(self) -> list[Any]:
        """What `apply` would change and how it is now, fit for JSON; changes nothing.

        KINDS makes of it, in another process, an object to restore from.  [] for nothing.
        """

    def apply(self) -> object:
        """Make the change.  What it raises ends the recording; it is put back then, too."""


KINDS: dict[str, Callable[[list[Any]], Restorable]] = {
    OffloadFixes.kind: OffloadFixes.planned,
    SymmetricRss.kind: SymmetricRss.planned,
    ReceiveStamping.kind: ReceiveStamping.planned,
}


class Guardian:
    """Context manager: on exit everything that it was told to `make` is as before, last first."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._made: list[Change] = []

    def __enter__(self) -> Guardian:
        return self

    def make(self, change: Change) -> None:
        """Make a change that lasts until the end."""
        planned = change.plan()
        if planned:
            self._tell(change.kind, planned)
            self._made.append(change)
        change.apply()

    def _tell(self, kind: str, planned: list[Any]) -> None:
        if self._child is None:
            self._child = helper_process.start(__name__)
        assert self._child.stdin is not None
        # It lies in the pipe, and is read even if this process is gone by then.
        with contextlib.suppress(BrokenPipeError):  # it was killed: see __exit__
            self._child.stdin.write(json.dumps([kind, planned]) + "\n")
            self._child.stdin.flush()

    def __exit__(self, *exc_info: object) -> None:
        if self._child is None:
            return
        try:
            said, _ = self._child.communicate(timeout=RESTORE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            kinds = " and ".join(dict.fromkeys(change.kind for change in self._made))
            log.warning("%s: not as before after %g s", kinds, RESTORE_TIMEOUT_S)
            return
        if self._child.returncode:
            # Killed, or never started: what it would have done is done here.
            for change in reversed(self._made):
                change.restore()
        for line in said.splitlines():
            log.info("%s", line)


def _wait_and_restore() -> None:
    helper_process.outlive()
    # The recorder's end of the pipe may have gone when there is something to say.
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.raiseExceptions = False
    told = []
    with contextlib.suppress(ValueError):  # cut off: nothing was changed yet
        for line in sys.stdin:
            told.append(json.loads(line))
    for kind, planned in reversed(told):
        KINDS[kind](planned).restore()


if __name__ == "__main__":
    _wait_and_restore()
