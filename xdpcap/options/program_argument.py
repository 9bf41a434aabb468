"""A program of the user's own as the command line names it: --bpf, or in the place of an interface.

    --bpf FILE[:NAME]          what is behind the last colon is a name when it could be one in C
    -i xdp:FILE:NAME:IFACE     split from the right: an interface has no colon in its name

A leaf: nothing is opened here.  A file whose own name ends like `:word` gets a colon more at
its end.  The kernel allows no colon in an interface's name (net/core/dev.c, dev_valid_name()).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from xdpcap.errors import UsageError

SCHEME = "xdp:"
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True)
class ProgramFile:
    """An eBPF object and the name of a program in it, "" for the only one that it has."""

    path: str
    name: str = ""


def parse_program(text: str) -> ProgramFile:
    """`FILE[:NAME]`; ValueError for one without a file."""
    path, colon, name = text.rpartition(":")
    if not colon or (name and not _NAME.fullmatch(name)):
        path, name = text, ""
    if not path:
        raise ValueError(f"{text!r} names no file; write FILE, or FILE:PROGRAM")
    return ProgramFile(path, name)


def parse_interface(text: str) -> tuple[str, ProgramFile | None]:
    """The interface that `-i` names, and its program where it is `xdp:FILE:NAME:INTERFACE`."""
    if not text.startswith(SCHEME):
        return text, None
    path, _, rest = text.removeprefix(SCHEME).rpartition(":")
    path, colon, name = path.rpartition(":")
    if not (colon and path and rest) or (name and not _NAME.fullmatch(name)):
        raise UsageError(
            f"-i {text}: a program and its interface are xdp:FILE:NAME:INTERFACE; "
            "NAME may be empty, as in xdp:mine.bpf.o::eth0"
        )
    return rest, ProgramFile(path, name)


def sources(
    interfaces: Sequence[str], program: ProgramFile | None
) -> tuple[tuple[str, ...], dict[str, ProgramFile]]:
    """Names of interfaces, and the own programs of those that have one.

    `program` (--bpf) is for every interface that does not name one itself.
    """
    found = [parse_interface(text) for text in interfaces]
    own = {name: own or program for name, own in found}
    return tuple(name for name, _ in found), {name: file for name, file in own.items() if file}
