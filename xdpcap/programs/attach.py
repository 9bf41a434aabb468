"""Which program an interface gets: the best that its kernel, its driver and its neighbours take.

Asked here once when an interface is made ready; what came of it is kept by `attachment`.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from typing import Any

from xdpcap.errors import KernelError, UsageError
from xdpcap.host import kernel
from xdpcap.net import Link
from xdpcap.options.record import RecordOptions
from xdpcap.packets.filter import for_build
from xdpcap.programs import dispatcher, pinned_counters
from xdpcap.programs.builds import Variant, variants
from xdpcap.programs.metadata import Metadata, by_program, choices
from xdpcap.programs.program import Program
from xdpcap.programs.timestamp_source import choose
from xdpcap.programs.user_program import own_variant

log = logging.getLogger(__name__)

# Errors that no other mode would cure.  ENOMEM of an attach is not among them: virtio_net
# before 5.13 says so when it has no queues to spare (virtnet_xdp_set()).
FINAL = {errno.EPERM, errno.EACCES, errno.EBUSY, errno.ENODEV}


def attach_program(
    link: Link, variant: Variant, queue_count: int, mode: str, **settings: Any
) -> Program:
    """The recording program, attached; `settings` are `Program`'s.  Nothing stays on failure."""
    program = Program(
        variant.path,
        queue_count,
        clock=variant.clock,
        name=variant.program,
        foreign=variant.foreign,
        **for_build(settings, variant.path),
    )
    try:
        program.attach(link.index, mode, link=kernel.has_bpf_link())
    except UsageError as exc:
        program.close()
        raise UsageError(_of_another(link, str(exc))) from None
    except KernelError:
        program.close()
        raise
    return program


def _of_another(link: Link, said: str) -> str:
    """What `Program.attach` says of a program that is there, with the names that it lacks."""
    said = said.replace("IFACE", link.name)
    pid = pinned_counters.recorder_of(link)
    if pid is not None:
        said = said.replace("stop its owner", f"stop its owner, xdpcap's process {pid}")
    return f"{link.name}: {said}"


def attach_best(
    options: RecordOptions, link: Link, queue_count: int, settings: dict[str, Any]
) -> tuple[Program, Variant, Metadata]:
    """The best program that the interface takes, attached, and what it finds of each packet.

    `settings` are `Program`'s, whichever build it is.  Native comes before generic, a program that
    may ask the driver before one that knows by itself.  Raises KernelError or UsageError with
    nothing left attached.
    """
    wanted = options.attach
    own = own_variant(options, link.name)
    joined = _join(options, link, queue_count, own, settings)
    if joined is not None:
        return joined
    modes = ("native", "generic") if wanted == "auto" else (wanted,)
    failure: Exception | None = None
    for mode in modes:
        for variant, metadata in choices(options, link, mode, own):
            try:
                told = settings | metadata.settings(link)
                return attach_program(link, variant, queue_count, mode, **told), variant, metadata
            except KernelError as exc:
                log.debug("%s", exc)
                if variant.asks_driver:
                    continue  # no word about the mode: the next build does without
                # The first word is about the best mode: that is the one to report.
                failure = failure or exc
                if exc.errno in FINAL:
                    raise
    assert failure is not None
    raise failure


def _join(
    options: RecordOptions,
    link: Link,
    queue_count: int,
    own: Variant | None,
    settings: dict[str, Any],
) -> tuple[Program, Variant, Metadata] | None:
    """A place in libxdp's dispatcher, where there is one; no driver answers its members."""
    hashes = by_program(options, own or next(variants())).hash_by == "program"
    told, place = settings | {"flow_hash": hashes}, options.priority
    joined = dispatcher.join(
        link, queue_count, options.attach, own, place, mirror=options.mirror, **told
    )
    if joined is None:
        return None
    program, variant = joined
    try:
        return program, variant, _of_a_member(options, link, variant)
    except UsageError:
        program.close()
        raise


def _of_a_member(options: RecordOptions, link: Link, variant: Variant) -> Metadata:
    why = f"no driver answers a program in libxdp's dispatcher, which {link.name} has"
    if options.hash == "driver":
        raise UsageError(f"--hash driver: {why}; use --hash program")
    return replace(by_program(options, variant), time=choose(options, link, why))
