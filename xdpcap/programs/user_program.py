"""A program of the user's own in place of ours: what it is, and what it leaves to user space.

docs/custom-programs.md has what such a program must and may do.  Nothing here loads it.
"""

from __future__ import annotations

import logging

from xdpcap.errors import UsageError
from xdpcap.host import kernel
from xdpcap.options.program_argument import ProgramFile
from xdpcap.options.record import RecordOptions
from xdpcap.programs.builds import Variant
from xdpcap.programs.object_file import examine

log = logging.getLogger(__name__)


def own_variant(options: RecordOptions, interface: str) -> Variant | None:
    """The user's program for an interface, examined; None where ours is wanted.

    Raises UsageError for an object that can't feed a recording.
    """
    file = options.bpf.get(interface)
    return None if file is None else _examined(file)


def _examined(file: ProgramFile) -> Variant:
    found = examine(file.path, file.name)
    if found.foreign_counters:
        log.info(
            "%s: its map `counters` holds no struct xdpcap_counters and is left alone", file.path
        )
    # Where sockets take no packets of several buffers, the driver is not to give any.
    multi_buffer = found.frags and kernel.has_multi_buffer()
    return Variant(file.path, found.clock, multi_buffer, program=found.name, foreign=True)


def as_a_member(own: Variant, multi_buffer: bool) -> Variant:
    """The user's program as a member of a dispatcher that takes packets of several buffers or not.

    Raises UsageError where it would take that from all the others.
    """
    if multi_buffer and not own.multi_buffer:
        raise UsageError(
            f"libxdp's dispatcher takes packets of several buffers and {own.program} does not; "
            'put it into SEC("xdp.frags") (Linux 6.6), or unload the others first'
        )
    return Variant(own.path, own.clock, multi_buffer, program=own.program, foreign=True)
