"""An expression of pcap-filter(7) as libpcap compiles it, and whether a packet matches it."""

from __future__ import annotations

from typing import NamedTuple

from xdpcap.errors import UsageError
from xdpcap.packets.filter import classic_bpf

#: LINKTYPE_ETHERNET of a capture file.
ETHERNET = 1
#: libpcap's MAXIMUM_SNAPLEN: longer than any packet.
SNAPLEN = 262144
# As much of an expression as a message quotes.
QUOTED = 60


class Instruction(NamedTuple):
    """One instruction of classic BPF (`struct bpf_insn` of pcap/bpf.h)."""

    code: int
    jt: int
    jf: int
    k: int


class Compiled:
    """A compiled filter: `expression`, the `linktype` it is for, and its `instructions`.

    Any thread may use it; it holds nothing but memory.
    """

    def __init__(
        self, expression: str, linktype: int, instructions: tuple[Instruction, ...]
    ) -> None:
        self.expression = expression
        self.linktype = linktype
        self.instructions = instructions
        self._interpreter = classic_bpf.Interpreter(instructions)

    def matches(self, packet: bytes, wire_len: int | None = None) -> bool:
        """Whether a packet of the linktype matches, as `tcpdump -r` would say.

        `packet` is what was captured of it and `wire_len` its length on the wire in bytes,
        which `len`, `less` and `greater` look at; None when all of it was captured.
        """
        return bool(self._interpreter.run(packet, len(packet) if wire_len is None else wire_len))


def compile_expression(
    expression: str, linktype: int = ETHERNET, snaplen: int = SNAPLEN
) -> Compiled:
    """Compile an expression for packets of a capture file's linktype (LINKTYPE_...).

    An expression of blanks alone matches everything. Names of hosts, networks and services are
    looked up here, which may take as long as the resolver does. Raises UsageError with
    libpcap's message when it can't be compiled.
    """
    try:
        found = classic_bpf.compile_expression(expression, linktype, snaplen)
    except UsageError as error:
        raise UsageError(f"filter {quoted(expression)}: {error}; see pcap-filter(7)") from None
    return Compiled(expression, linktype, tuple(Instruction(*each) for each in found))


def quoted(expression: str) -> str:
    """An expression for a message: on one line, in quotes, cut where it is long."""
    text = " ".join(expression.split())
    return repr(text if len(text) <= QUOTED else text[: QUOTED - 3] + "...")
