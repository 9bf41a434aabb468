"""The filter of a recording: in the XDP program, and in words."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xdpcap.errors import KernelError, UsageError, XdpcapError
from xdpcap.packets.filter.assembler import TooFarError
from xdpcap.packets.filter.compiled import Compiled, compile_expression, quoted
from xdpcap.packets.filter.splice import spliced, takes_several_buffers
from xdpcap.packets.filter.translate import translate

#: The oldest kernel whose verifier is known to take a filter.
OLDEST_KERNEL = (5, 10)
# What the verifier says of a program that it gives up on (kernel/bpf/verifier.c). ENOSPC is the
# sequence of branches, and before 6.4 words of the verifier that are more than the room for them:
# the program has been refused then, and nothing but a filter makes it that long.
# EFAULT is that sequence of branches, too, where push_stack() says so (6.1).
TOO_LONG = {errno.E2BIG, errno.ENOSPC, errno.EFAULT}


class PacketFilter:
    """An expression for Ethernet, and what becomes of packets that do not match it.

    Raises UsageError for an expression that libpcap does not compile.
    """

    def __init__(self, expression: str, unmatched: str = "pass") -> None:
        self.compiled: Compiled = compile_expression(expression)
        self.unmatched = unmatched

    def __str__(self) -> str:
        rest = "stays with the kernel" if self.unmatched == "pass" else "is dropped"
        return f"{quoted(self.compiled.expression)}, the rest {rest}"

    def program_options(self, path: str) -> dict[str, Any]:
        """What `Program` is told to load the build at `path` with this filter in it."""
        image = Path(path).read_bytes()
        try:
            code = translate(
                self.compiled.instructions, several_buffers=takes_several_buffers(image)
            )
        except TooFarError:
            raise self._too_long() from None
        return {"image": spliced(image, code), "unmatched": self.unmatched}

    def explain(self, error: KernelError) -> XdpcapError:
        """The error of loading a program, in terms of the filter if that is the cause."""
        if error.call.startswith("loading ") and error.errno in TOO_LONG:
            return self._too_long()
        return error

    def _too_long(self) -> UsageError:
        return UsageError(
            f"filter {quoted(self.compiled.expression)}: too long for the kernel "
            f"({len(self.compiled.instructions)} instructions of classic BPF); say it with fewer "
            "terms, as networks and port ranges, or `xdpcap filter` the files afterwards"
        )


def for_build(settings: Mapping[str, Any], path: str) -> dict[str, Any]:
    """`Program`'s settings for one build; a `packet_filter` among them is put into the program."""
    found = dict(settings)
    packet_filter = found.pop("packet_filter", None)
    return found if packet_filter is None else found | packet_filter.program_options(path)
