"""Record beside other XDP programs, as a member of libxdp's dispatcher.

libxdp pins the programs that it attaches, so unlike a program on a bpf_link a member outlives
its process.  It is removed, and the other members left alone, as follows:

* a guardian process removes it when the recorder ends for any reason;
* until then it does no harm: without sockets each XSKMAP lookup fails and it passes all packets;
* when recorder and guardian were both killed, the next recording removes it: our own program is
  recognized by its name, a user's by a marker beside the recording's pins.

A claim on the interface distinguishes a program in use from a stale one.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from xdpcap.errors import KernelError, UsageError, XdpcapError
from xdpcap.net import Link
from xdpcap.packets.filter import for_build
from xdpcap.programs import counters, dispatcher_guardian, libxdp_dispatcher
from xdpcap.programs.builds import Variant, bare_variant, member_variants
from xdpcap.programs.dispatcher_guardian import Guardian, remove_marker
from xdpcap.programs.libxdp_dispatcher import DispatchedProgram, Dispatcher, Member
from xdpcap.programs.pinned_counters import marker_path
from xdpcap.programs.user_program import as_member

log = logging.getLogger(__name__)

PROGRAM_NAME = "xdpcap_record"
# The name of the marker for a program of another name.
MARKER = "joined"
# The time allowed for the guardian of a killed recording to give up the claim.
CLAIM_WAIT_S = 3.0
CLAIM_POLL_S = 0.02


class Claim:
    """Allows one recording at a time in the dispatcher of an interface.

    An abstract unix socket: it exists in the interface's network namespace only, leaves no
    file, and ends with the last process that holds it.  Raises UsageError when another
    process has it.
    """

    def __init__(self, link: Link) -> None:
        self._address = f"\0xdpcap-dispatcher-{link.index}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + CLAIM_WAIT_S
        while not self._try_bind():
            holder = self._holder_pid()
            # When the holder has ended, its guardian keeps the claim for a moment.
            if os.path.exists(f"/proc/{holder}") or time.monotonic() > deadline:
                self.close()
                raise UsageError(
                    f"{link.name}: another xdpcap (process {holder}) records beside libxdp's "
                    "other programs; stop it first"
                )
            time.sleep(CLAIM_POLL_S)

    def _try_bind(self) -> bool:
        try:
            self._socket.bind(self._address)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            return False
        self._socket.listen()
        return True

    def _holder_pid(self) -> int:
        """The process that made the claim; 0 if unknown."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            try:
                client.connect(self._address)
            except OSError:
                return 0
            size = struct.calcsize("3i")
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            return int(struct.unpack("3i", credentials)[0])

    def fileno(self) -> int:
        """The descriptor, for another process to hold the claim as well."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this process's descriptor; safe to call again."""
        self._socket.close()


class JoinedProgram(DispatchedProgram):
    """The recording program in a dispatcher, with the guardian that removes it."""

    _guardian: Guardian | None = None
    _claim: Claim | None = None
    _marker: Path | None = None

    def start_guardian(self, link: Link, claim: Claim) -> None:
        """Start the guardian, which removes the program when this process ends.

        Keeps `claim`.  Raises XdpcapError.
        """
        self._claim = claim
        if self.foreign:
            self._marker = _make_marker(link, self.prog_id)
        try:
            self._guardian = Guardian(self.ifindex, self.prog_id, claim.fileno(), self._marker)
        except OSError as exc:
            raise XdpcapError(f"starting {sys.executable}: {exc.strerror or exc}") from None

    def detach(self) -> None:
        """Leave the dispatcher; safe to call again, never raises."""
        if self.attach_mode is None:
            return
        error = self._guardian.leave() if self._guardian is not None else None
        if error is None:
            error = dispatcher_guardian.leave(self.ifindex, self.prog_id, self._marker)
        self.forget()
        if error:
            log.warning("%s", error)

    def close(self) -> None:
        """Leave, unload and release the claim; safe to call again."""
        super().close()
        if self._claim is not None:
            self._claim.close()


class JoinRequest(NamedTuple):
    """The program to join with: a user's or ours, its priority, more settings of `Program`."""

    queue_count: int
    user_program: Variant | None
    priority: int | None
    mirror: bool
    settings: Mapping[str, Any]

    def variants(self, multi_buffer: bool) -> list[Variant]:
        """The builds to try; `multi_buffer`: the dispatcher supports multi-buffer packets."""
        if self.user_program is not None:
            return [as_member(self.user_program, multi_buffer)]
        return list(member_variants(multi_buffer, mirror=self.mirror))


def join(
    link: Link,
    queue_count: int,
    attach: str,
    user_program: Variant | None = None,
    priority: int | None = None,
    *,
    mirror: bool = False,
    **settings: Any,
) -> tuple[JoinedProgram, Variant] | None:
    """Join libxdp's dispatcher on an interface; None when it has none.

    `attach` is the requested mode ("auto", "native", "generic"), `user_program` replaces our
    program, `priority` is its place among the members (None: the program's own), `mirror`
    whether packets are copied, `settings` are more of `Program`'s.  Raises KernelError and
    UsageError; then the dispatcher is unchanged.
    """
    try:
        present = libxdp_dispatcher.find(link.index)
        if present is None:
            if priority is not None:
                log.info("%s: no libxdp dispatcher, so --priority has no effect", link.name)
            return None
        claim = Claim(link)
        request = JoinRequest(queue_count, user_program, priority, mirror, settings)
        try:
            joined = _join(link, attach, claim, request)
        except BaseException:
            claim.close()
            raise
    except KernelError as exc:
        raise KernelError(f"{link.name}: {exc.call}", exc.errno, exc.hint) from None
    if joined is None:
        claim.close()
    return joined


def _join(
    link: Link, attach: str, claim: Claim, request: JoinRequest
) -> tuple[JoinedProgram, Variant] | None:
    present = _remove_stale(link)
    if present is None:
        return None
    if attach not in ("auto", present.mode):
        raise UsageError(
            f"{link.name}: libxdp's dispatcher is attached in {present.mode} mode and all its "
            f"programs with it; leave out --attach {attach}"
        )
    number = libxdp_dispatcher.freplace_errno(bare_variant(False).path, present.prog_id)
    if number:
        raise KernelError(
            "libxdp's dispatcher can't be joined on this kernel",
            number,
            f"it loads no freplace programs; `xdp-loader unload {link.name} --all` first",
        )
    program, variant = _attach_best(link, present, request)
    try:
        program.start_guardian(link, claim)
    except BaseException:
        program.close()
        raise
    log.info("%s", _joined_message(link, present, program))
    return program, variant


def _remove_stale(link: Link) -> Dispatcher | None:
    """Remove programs of killed recordings; returns the remaining dispatcher, if any.

    We hold the claim, so no running recording uses them.
    """
    present = libxdp_dispatcher.find(link.index)
    marked_id = _take_marker(link)
    members = present.members if present else []
    stale = [m for m in members if m.name == PROGRAM_NAME or m.prog_id == marked_id]
    for member in stale:
        if libxdp_dispatcher.leave(link.index, member.prog_id):
            log.warning(
                "%s: removed the program of a killed recording (id %d) from libxdp's dispatcher",
                link.name,
                member.prog_id,
            )
    return libxdp_dispatcher.find(link.index) if stale else present


def _make_marker(link: Link, prog_id: int) -> Path | None:
    """Mark this member as a recording's, whatever its name."""
    try:
        marker = marker_path(link, MARKER)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.unlink(missing_ok=True)
        marker.symlink_to(f"{prog_id}-{counters.load_time_ns(prog_id)}")
    except (XdpcapError, OSError) as exc:
        log.debug("%s: can't mark program %d as a recording's: %s", link.name, prog_id, exc)
        return None
    return marker


def _take_marker(link: Link) -> int:
    """Remove the marker of an earlier recording; returns its program id, 0 for none."""
    try:
        marker = marker_path(link, MARKER)
        prog_id, loaded_ns = map(int, os.readlink(marker).split("-"))
        remove_marker(marker)
    except (XdpcapError, OSError, ValueError):
        return 0
    # Ids are reused, the load time is not.
    return prog_id if counters.load_time_ns(prog_id) == loaded_ns else 0


def _attach_best(
    link: Link, present: Dispatcher, request: JoinRequest
) -> tuple[JoinedProgram, Variant]:
    failure: KernelError | None = None
    for variant in request.variants(present.multi_buffer):
        program = JoinedProgram(
            variant.path,
            request.queue_count,
            clock=variant.program_clock,
            name=variant.program,
            foreign=variant.foreign,
            **for_build(request.settings, variant.path),
        )
        try:
            program.attach(
                link.index,
                present.mode,
                multi_buffer=variant.multi_buffer,
                priority=request.priority,
            )
        except KernelError as exc:
            program.close()
            # The first error concerns the better build: report that one.
            failure = failure or exc
            if exc.errno != errno.EINVAL:
                break
            log.debug("%s", exc)
        except BaseException:
            program.close()
            raise
        else:
            return program, variant
    assert failure is not None
    raise failure


def _joined_message(link: Link, present: Dispatcher, program: JoinedProgram) -> str:
    """The other members, and how the recording affects them."""
    first = [m for m in present.members if _runs_before(m, program)]
    after = [m for m in present.members if not _runs_before(m, program)]
    text = f"{link.name}: joined libxdp's dispatcher (id {present.prog_id}), "
    text += f"priority {program.priority}"
    if first:
        text += f"; runs before, so what it keeps is not recorded: {_names(first)}"
    if after:
        text += f"; runs after, for packets that are not recorded: {_names(after)}"
    return text


def _runs_before(member: Member, program: JoinedProgram) -> bool:
    # libxdp's order: priority, then name (cmp_xdp_programs()).
    return (member.priority, member.name) < (program.priority, program.name)


def _names(members: list[Member]) -> str:
    return ", ".join(f"{m.name} (priority {m.priority})" for m in members)
