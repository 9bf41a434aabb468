"""Examine a user's own XDP program (--bpf) before it is loaded.

docs/custom-programs.md specifies such programs.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from xdpcap.errors import UsageError
from xdpcap.host import kernel
from xdpcap.options.program_argument import ProgramFile
from xdpcap.options.record import RecordOptions
from xdpcap.programs.builds import Variant
from xdpcap.programs.object_file import examine

log = logging.getLogger(__name__)


def user_variant(options: RecordOptions, interface: str) -> Variant | None:
    """The user's program for an interface, examined; None if there is none.

    Raises UsageError for an object that can't feed a recording.
    """
    file = options.bpf.get(interface)
    return None if file is None else _examined(file)


def _examined(file: ProgramFile) -> Variant:
    found = examine(file.path, file.name)
    if found.foreign_counters:
        log.info("%s: its map `counters` holds no struct xdpcap_counters and is ignored", file.path)
    # Where sockets don't support multi-buffer packets, the driver must not deliver any.
    multi_buffer = found.frags and kernel.has_multi_buffer()
    return Variant(file.path, found.clock, multi_buffer, program=found.name, foreign=True)


def as_member(program: Variant, multi_buffer: bool) -> Variant:
    """The user's program as a member of a dispatcher; `multi_buffer`: that supports multi-buffer.

    Raises UsageError where the program would disable multi-buffer for the other members.
    """
    if multi_buffer and not program.multi_buffer:
        raise UsageError(
            f"libxdp's dispatcher accepts multi-buffer packets and {program.program} does not; "
            'put it into SEC("xdp.frags") (Linux 6.6), or unload the others first'
        )
    return replace(program, multi_buffer=multi_buffer)
