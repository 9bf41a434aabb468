"""Guardian process: removes the recording program from libxdp's dispatcher.

A bpf_link goes away with its process; a member of the dispatcher is pinned and stays.  So a
helper process outlives the recorder (`host.helper_process`) and removes the member when the
recorder ends, killed or not.  It keeps root, which the recorder may have given up.
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
GONE = "its program was already removed from libxdp's dispatcher: no packets arrived since"


class Guardian:
    """The recorder's side: starts the process once the program has joined; end with `leave()`.

    The process holds `claim_fd` until it is done; `marker` is the recording's marker for the
    program.  Raises OSError when the process can't be started.
    """

    def __init__(
        self, ifindex: int, prog_id: int, claim_fd: int, marker: Path | None = None
    ) -> None:
        arguments = [str(ifindex), str(prog_id), *([] if marker is None else [str(marker)])]
        self._child: subprocess.Popen[str] | None = helper_process.start(
            __name__, *arguments, pass_fds=[claim_fd]
        )

    def leave(self) -> str | None:
        """Have the program removed; returns "" on success, else an error message.

        None when the guardian is gone or hangs.  Safe to call again.
        """
        child, self._child = self._child, None
        if child is None:
            return ""
        try:
            output, _ = child.communicate(timeout=LEAVE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return None
        lines = output.strip().splitlines()
        return lines[-1] if lines and child.returncode == 1 else "" if output else None


def leave(ifindex: int, prog_id: int, marker: Path | None = None) -> str:
    """Remove the program and its marker; returns "" on success, else a one-line message."""
    try:
        # Deleting an interface deletes its dispatcher, but not libxdp's pins.
        removed = libxdp_dispatcher.leave(ifindex, prog_id) or unpin(ifindex, prog_id)
        if marker is not None:
            remove_marker(marker)
        return "" if removed else GONE
    except (XdpcapError, OSError) as exc:
        return f"its program (id {prog_id}) is still in libxdp's dispatcher: {exc}"


def remove_marker(marker: Path) -> None:
    """Remove a program's marker, and our directories above it that are then empty."""
    marker.unlink(missing_ok=True)
    for directory in (d for d in marker.parents if "xdpcap" in (d.name, d.parent.name)):
        with contextlib.suppress(OSError):
            directory.rmdir()


def unpin(ifindex: int, prog_id: int) -> int:
    """Remove a program's pins after its interface was deleted; returns the number of files.

    libxdp_clean_references() would also remove live dispatchers of the same ifindex in other
    network namespaces than the caller's.
    """
    removed = 0
    pinned = Path(os.environ.get("LIBXDP_BPFFS", "/sys/fs/bpf"), "xdp")
    for path in sorted(pinned.glob(f"dispatch-{ifindex}-*/*-prog")):
        if libxdp_dispatcher.pinned_id(str(path)) == prog_id:
            path.with_name(path.name.replace("-prog", "-link")).unlink()
            path.unlink()
            removed += 2
            with contextlib.suppress(OSError):  # other members' pins stay
                path.parent.rmdir()
    return removed


def _main() -> int:
    helper_process.outlive()
    sys.stdin.read()
    error = leave(int(sys.argv[1]), int(sys.argv[2]), *map(Path, sys.argv[3:]))
    with contextlib.suppress(BrokenPipeError):
        print(error or "done", flush=True)
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(_main())
