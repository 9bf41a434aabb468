"""Takes the recording program out of libxdp's dispatcher, whatever becomes of the recorder.

A bpf_link goes away with its process; a member of the dispatcher is pinned and stays.  So
a small process of its own outlives the recorder (`outliving`), and does what the recorder
no longer could once it gave up root: leave on a normal end, too.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from xdpcap.errors import XdpcapError
from xdpcap.host import helper_process
from xdpcap.programs import libxdp_dispatcher

LEAVE_TIMEOUT_S = 10.0
GONE = "its program had been taken out of libxdp's dispatcher before: nothing came since"


class Guardian:
    """The recorder's side: start it once the program has joined, `leave()` at the end.

    `claim_fd` is held by the process as well, until it is done; `mark` is the word that the
    recording has left of the program.  Raises OSError when it can't be started.
    """

    def __init__(self, ifindex: int, prog_id: int, claim_fd: int, mark: Path | None = None) -> None:
        told = [str(ifindex), str(prog_id), *([] if mark is None else [str(mark)])]
        self._child: subprocess.Popen[str] | None = helper_process.start(
            __name__, *told, pass_fds=[claim_fd]
        )

    def leave(self) -> str | None:
        """Have the program taken out; "" when it is, else what is wrong.

        None when the guardian is not there to do it.  Safe to call again.
        """
        child, self._child = self._child, None
        if child is None:
            return ""
        try:
            said, _ = child.communicate(timeout=LEAVE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return None
        lines = said.strip().splitlines()
        return lines[-1] if lines and child.returncode == 1 else "" if said else None


def leave(ifindex: int, prog_id: int, mark: Path | None = None) -> str:
    """Take the program out, and the word of it; "" when it is, else what is wrong, in one line."""
    try:
        # With the interface its dispatcher has gone, but not what libxdp has pinned.
        there = libxdp_dispatcher.leave(ifindex, prog_id) or unpin(ifindex, prog_id)
        if mark is not None:
            unmark(mark)
        return "" if there else GONE
    except (XdpcapError, OSError) as exc:
        return f"its program (id {prog_id}) is still in libxdp's dispatcher: {exc}"


def unmark(mark: Path) -> None:
    """Remove the word of a program, and the directories of ours that are empty then."""
    mark.unlink(missing_ok=True)
    for directory in (d for d in mark.parents if "xdpcap" in (d.name, d.parent.name)):
        with contextlib.suppress(OSError):
            directory.rmdir()


def unpin(ifindex: int, prog_id: int) -> int:
    """Remove a program's pins after its interface has gone; returns how many files went.

    libxdp_clean_references() would take every dispatcher of this ifindex for dead that is
    not in the caller's network namespace, whosoever it is.
    """
    removed = 0
    pinned = Path(os.environ.get("LIBXDP_BPFFS", "/sys/fs/bpf"), "xdp")
    for path in sorted(pinned.glob(f"dispatch-{ifindex}-*/*-prog")):
        if libxdp_dispatcher.pinned_id(str(path)) == prog_id:
            path.with_name(path.name.replace("-prog", "-link")).unlink()
            path.unlink()
            removed += 2
            with contextlib.suppress(OSError):  # the others' pins are theirs
                path.parent.rmdir()
    return removed


def _main() -> int:
    helper_process.outlive()
    sys.stdin.read()
    said = leave(int(sys.argv[1]), int(sys.argv[2]), *map(Path, sys.argv[3:]))
    with contextlib.suppress(BrokenPipeError):
        print(said or "done", flush=True)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(_main())
