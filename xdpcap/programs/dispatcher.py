"""Recording beside other XDP programs, under libxdp's dispatcher.

Our program joins as one member of several and is the only one that is taken out again.
libxdp pins what it attaches, so the program does not go with the process as one on a
bpf_link does.  Three things see to it:

* a guardian process takes it out when the recorder ends, in whatever way;
* until then it harms nothing: without sockets every look-up in its XSKMAP fails and it
  passes everything on;
* what is left when both were killed is found by the next recording and taken out: our own by its
  name, a user's by a mark beside the recording's pins.

A claim on the interface tells a program that somebody records with from a stale one.
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
from xdpcap.programs.builds import Variant, bare, member_variants
from xdpcap.programs.dispatcher_guardian import Guardian, unmark
from xdpcap.programs.libxdp_dispatcher import DispatchedProgram, Dispatcher, Member
from xdpcap.programs.pinned_counters import place_beside
from xdpcap.programs.user_program import as_a_member

log = logging.getLogger(__name__)

PROGRAM_NAME = "xdpcap_record"
# What the word for a program of another name is called.
MARK = "joined"
# How long the guardian of a recording that was killed may take, which has the claim.
CLAIM_WAIT_S = 3.0
CLAIM_POLL_S = 0.02


class Claim:
    """The right to be the one recording in the dispatcher of an interface.

    An abstract unix socket: it is found in the interface's network namespace only, leaves
    no file, and ends with the last process that holds it.  Raises UsageError when another
    process has it.
    """

    def __init__(self, link: Link) -> None:
        self._address = f"\0xdpcap-dispatcher-{link.index}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + CLAIM_WAIT_S
        while not self._taken():
            holder = self._holder()
            # A holder that has ended has left the claim to its guardian, for a moment.
            if os.path.exists(f"/proc/{holder}") or time.monotonic() > deadline:
                self.close()
                raise UsageError(
                    f"{link.name}: another xdpcap (process {holder}) records beside libxdp's "
                    "other programs; stop it first"
                )
            time.sleep(CLAIM_POLL_S)

    def _taken(self) -> bool:
        try:
            self._socket.bind(self._address)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            return False
        self._socket.listen()
        return True

    def _holder(self) -> int:
        """The process that made the claim; 0 when it can't be told."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.setblocking(False)
            try:
                asking.connect(self._address)
            except OSError:
                return 0
            size = struct.calcsize("3i")
            found = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            return int(struct.unpack("3i", found)[0])

    def fileno(self) -> int:
        """The descriptor, for a process that is to hold the claim as well."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give up our share; safe to call again."""
        self._socket.close()


class JoinedProgram(DispatchedProgram):
    """Our program in a dispatcher, with the guardian that takes it out again."""

    _guardian: Guardian | None = None
    _claim: Claim | None = None
    _mark: Path | None = None

    def guard(self, link: Link, claim: Claim) -> None:
        """From here on it is taken out whatever becomes of us.  Raises XdpcapError."""
        self._claim = claim
        if self.foreign:
            self._mark = _leave_mark(link, self.prog_id)
        try:
            self._guardian = Guardian(self.ifindex, self.prog_id, claim.fileno(), self._mark)
        except OSError as exc:
            raise XdpcapError(f"starting {sys.executable}: {exc.strerror or exc}") from None

    def detach(self) -> None:
        """Leave the dispatcher; safe to call again, never raises."""
        if self.attach_mode is None:
            return
        said = self._guardian.leave() if self._guardian is not None else None
        if said is None:
            said = dispatcher_guardian.leave(self.ifindex, self.prog_id, self._mark)
        self.forget()
        if said:
            log.warning("%s", said)

    def close(self) -> None:
        """Leave, unload and give up the claim; safe to call again."""
        super().close()
        if self._claim is not None:
            self._claim.close()


class Wanted(NamedTuple):
    """What is to join: a user's own program or ours, its place, more settings of `Program`."""

    queue_count: int
    own: Variant | None
    priority: int | None
    mirror: bool
    settings: Mapping[str, Any]

    def variants(self, multi_buffer: bool) -> list[Variant]:
        """The builds to try in a dispatcher that takes packets of several buffers, or not."""
        if self.own is not None:
            return [as_a_member(self.own, multi_buffer)]
        return list(member_variants(multi_buffer, mirror=self.mirror))


def join(
    link: Link,
    queue_count: int,
    attach: str,
    own: Variant | None = None,
    priority: int | None = None,
    *,
    mirror: bool = False,
    **settings: Any,
) -> tuple[JoinedProgram, Variant] | None:
    """Join libxdp's dispatcher on an interface; None when it has none.

    `attach` is what was asked for ("auto", "native", "generic"), `own` a program of the
    user's in place of ours, `priority` the place among the members (None: the program's
    own), `mirror` whether packets are copied, `settings` are more of `Program`'s.  Raises
    KernelError and UsageError with the dispatcher as it was.
    """
    try:
        present = libxdp_dispatcher.find(link.index)
        if present is None:
            if priority is not None:
                log.info("%s: no dispatcher of libxdp's, so --priority has no effect", link.name)
            return None
        claim = Claim(link)
        try:
            joined = _join(
                link, attach, claim, Wanted(queue_count, own, priority, mirror, settings)
            )
        except BaseException:
            claim.close()
            raise
    except KernelError as exc:
        raise KernelError(f"{link.name}: {exc.call}", exc.errno, exc.hint) from None
    if joined is None:
        claim.close()
    return joined


def _join(
    link: Link, attach: str, claim: Claim, wanted: Wanted
) -> tuple[JoinedProgram, Variant] | None:
    present = _sweep(link)
    if present is None:
        return None
    if attach not in ("auto", present.mode):
        raise UsageError(
            f"{link.name}: libxdp's dispatcher is attached in {present.mode} mode and all its "
            f"programs with it; leave out --attach {attach}"
        )
    number = libxdp_dispatcher.freplace_errno(bare(False).path, present.prog_id)
    if number:
        raise KernelError(
            "libxdp's dispatcher can't be joined on this kernel",
            number,
            f"it loads no freplace programs; `xdp-loader unload {link.name} --all` first",
        )
    program, variant = _attach_best(link, present, wanted)
    try:
        program.guard(link, claim)
    except BaseException:
        program.close()
        raise
    log.info("%s", _told(link, present, program))
    return program, variant


def _sweep(link: Link) -> Dispatcher | None:
    """Take out what killed recordings have left; the dispatcher that remains, if any.

    We have the claim, so nobody records with what is found.
    """
    present = libxdp_dispatcher.find(link.index)
    marked = _marked(link)
    members = present.members if present else []
    stale = [m for m in members if m.name == PROGRAM_NAME or m.prog_id == marked]
    for member in stale:
        if libxdp_dispatcher.leave(link.index, member.prog_id):
            log.warning(
                "%s: took the program of a recording that was killed (id %d) out of libxdp's "
                "dispatcher",
                link.name,
                member.prog_id,
            )
    return libxdp_dispatcher.find(link.index) if stale else present


def _leave_mark(link: Link, prog_id: int) -> Path | None:
    """Leave word that this member is a recording's, whatever it is called."""
    try:
        mark = place_beside(link, MARK)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.unlink(missing_ok=True)
        mark.symlink_to(f"{prog_id}-{counters.load_time_ns(prog_id)}")
    except (XdpcapError, OSError) as exc:
        log.debug("%s: no word of program %d is left: %s", link.name, prog_id, exc)
        return None
    return mark


def _marked(link: Link) -> int:
    """The member that an earlier recording has left word of; 0 for none.  Takes the word away."""
    try:
        mark = place_beside(link, MARK)
        prog_id, loaded_ns = map(int, os.readlink(mark).split("-"))
        unmark(mark)
    except (XdpcapError, OSError, ValueError):
        return 0
    # Ids are used again, the time of loading is not.
    return prog_id if counters.load_time_ns(prog_id) == loaded_ns else 0


def _attach_best(link: Link, present: Dispatcher, wanted: Wanted) -> tuple[JoinedProgram, Variant]:
    failure: KernelError | None = None
    for variant in wanted.variants(present.multi_buffer):
        program = JoinedProgram(
            variant.path,
            wanted.queue_count,
            clock=variant.program_clock,
            name=variant.program,
            foreign=variant.foreign,
            **for_build(wanted.settings, variant.path),
        )
        try:
            program.attach(
                link.index,
                present.mode,
                multi_buffer=variant.multi_buffer,
                priority=wanted.priority,
            )
        except KernelError as exc:
            program.close()
            # The first word is about the better build: that is the one to report.
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


def _told(link: Link, present: Dispatcher, program: JoinedProgram) -> str:
    """Who is there, and what a recording means for them."""
    first = [m for m in present.members if _runs_before(m, program)]
    after = [m for m in present.members if not _runs_before(m, program)]
    text = f"{link.name}: joined libxdp's dispatcher (id {present.prog_id}), "
    text += f"priority {program.priority}"
    if first:
        text += f"; called before, so that what it keeps is not recorded: {_names(first)}"
    if after:
        text += f"; called after, for what is not recorded: {_names(after)}"
    return text


def _runs_before(member: Member, program: JoinedProgram) -> bool:
    # libxdp's order: priority, then name (cmp_xdp_programs()).
    return (member.priority, member.name) < (program.priority, program.name)


def _names(members: list[Member]) -> str:
    return ", ".join(f"{m.name} (priority {m.priority})" for m in members)
