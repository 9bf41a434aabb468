"""Attach the best XDP program that the kernel, the driver and libxdp's dispatcher accept.

Runs once for each interface, while the recording is set up; `record.attachment` keeps the result.
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
from xdpcap.programs.metadata import Metadata, by_program, candidates
from xdpcap.programs.program import Program
from xdpcap.programs.timestamp_source import choose_time_stamps
from xdpcap.programs.user_program import user_variant

log = logging.getLogger(__name__)

# Errors that no other attach mode avoids.  ENOMEM is not one of them: virtio_net before 5.13
# returns it when it has no spare queues (virtnet_xdp_set()).
FATAL_ERRNOS = {errno.EPERM, errno.EACCES, errno.EBUSY, errno.ENODEV}


def attach_program(
    link: Link, variant: Variant, queue_count: int, mode: str, **settings: Any
) -> Program:
    """Load and attach the recording program; `settings` are `Program`'s.

    On failure nothing stays attached.
    """
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
        raise UsageError(_already_attached_message(link, str(exc))) from None
    except KernelError:
        program.close()
        raise
    return program


def _already_attached_message(link: Link, message: str) -> str:
    """`Program.attach()`'s error for an attached program, with interface and process filled in."""
    message = message.replace("IFACE", link.name)
    pid = pinned_counters.recorder_pid(link)
    if pid is not None:
        message = message.replace("stop its owner", f"stop its owner, xdpcap's process {pid}")
    return f"{link.name}: {message}"


def attach_best(
    options: RecordOptions, link: Link, queue_count: int, settings: dict[str, Any]
) -> tuple[Program, Variant, Metadata]:
    """Attach the best program that the interface accepts; also returns its build and metadata.

    `settings` are `Program`'s, for every build.  Native mode is tried before generic, a program
    that queries the driver before one that doesn't.  Raises KernelError or UsageError; then
    nothing is attached.
    """
    user_program = user_variant(options, link.name)
    joined = _join(options, link, queue_count, user_program, settings)
    if joined is not None:
        return joined
    modes = ("native", "generic") if options.attach == "auto" else (options.attach,)
    failure: Exception | None = None
    for mode in modes:
        for variant, metadata in candidates(options, link, mode, user_program):
            try:
                all_settings = settings | metadata.settings(link)
                program = attach_program(link, variant, queue_count, mode, **all_settings)
                return program, variant, metadata
            except KernelError as exc:
                log.debug("%s", exc)
                if variant.queries_driver:
                    continue  # this may not concern the mode: the next build doesn't query
                # The first error concerns the best mode: report that one.
                failure = failure or exc
                if exc.errno in FATAL_ERRNOS:
                    raise
    assert failure is not None
    raise failure


def _join(
    options: RecordOptions,
    link: Link,
    queue_count: int,
    user_program: Variant | None,
    settings: dict[str, Any],
) -> tuple[Program, Variant, Metadata] | None:
    """Join libxdp's dispatcher if there is one; its members can't query the driver."""
    flow_hash = by_program(options, user_program or next(variants())).hash_by == "program"
    joined = dispatcher.join(
        link,
        queue_count,
        options.attach,
        user_program,
        options.priority,
        mirror=options.mirror,
        **settings | {"flow_hash": flow_hash},
    )
    if joined is None:
        return None
    program, variant = joined
    try:
        return program, variant, _member_metadata(options, link, variant)
    except UsageError:
        program.close()
        raise


def _member_metadata(options: RecordOptions, link: Link, variant: Variant) -> Metadata:
    why = f"programs in libxdp's dispatcher, which {link.name} has, can't query the driver"
    if options.hash == "driver":
        raise UsageError(f"--hash driver: {why}; use --hash program")
    return replace(by_program(options, variant), time=choose_time_stamps(options, link, why))
