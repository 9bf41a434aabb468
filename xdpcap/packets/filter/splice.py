"""The recording program with a filter in it: its object file, one function of which is replaced.

bpf/filter.h has a function that stands for the filter and matches everything. It is replaced in
the object file, before libbpf opens it, for three reasons: a tail call, which would need no
replacing, is not open to a program that is bound to a device, as the driver's metadata want
it; libbpf then puts the function in the program and moves what refers to places behind it, as it
does for any other; and whoever loads the object (this program, or libxdp when it joins
a dispatcher) loads the filter with it. What libbpf offers to change a program's instructions
before it is loaded is a hook for all programs of the process, libxdp's own included.

The function must be the last of its section, so that it can grow without moving another.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from xdpcap.errors import XdpcapError

#: The function of bpf/filter.h.
FUNCTION = "xdpcap_matches"
SECTION = ".text"
#: What libbpf calls programs for packets of several buffers.
SEVERAL_BUFFERS = "xdp.frags"

# ELF64, little endian (elf.h): where the file's header tells of the section headers, and the
# layouts of a section header and of a symbol; all in bytes.
_TABLE_IN_HEADER, _COUNTS_IN_HEADER = 0x28, 0x3A
_SECTION, _OFFSET_IN_SECTION = struct.Struct("<IIQQQQIIQQ"), 24
_SYMBOL, _SIZE_IN_SYMBOL = struct.Struct("<IBBHQQ"), 16
SHT_SYMTAB, STT_FUNC = 2, 2
ALIGNMENT = 8


class Section(NamedTuple):
    """Where a section is in an object file, and what its header says of it."""

    at: int
    name: str
    type: int
    offset: int
    size: int
    link: int

    def content(self, image: bytes) -> bytes:
        """Its bytes."""
        return image[self.offset : self.offset + self.size]


def spliced(image: bytes, code: bytes) -> bytes:
    """An object file in which FUNCTION consists of `code`, bytes of `struct bpf_insn`.

    Raises XdpcapError for an object without such a function, or not at the end of its section.
    """
    try:
        sections = sections_of(image)
        text = next(s for s in sections if s.name == SECTION)
        symbol_at, begin, size = _function(image, sections, sections.index(text))
    except (struct.error, StopIteration, IndexError, ValueError):
        raise _unfit("no function for a filter") from None
    if begin + size != text.size or len(code) < size:
        raise _unfit("no room for a filter")
    out = bytearray(image)
    out += bytes(-len(out) % ALIGNMENT)
    struct.pack_into("<QQ", out, text.at + _OFFSET_IN_SECTION, len(out), begin + len(code))
    struct.pack_into("<Q", out, symbol_at + _SIZE_IN_SYMBOL, len(code))
    return bytes(out) + text.content(image)[:begin] + code


def takes_several_buffers(image: bytes) -> bool:
    """Whether the build is one for packets of several buffers; False for what is no object."""
    try:
        return any(section.name == SEVERAL_BUFFERS for section in sections_of(image))
    except (struct.error, IndexError, ValueError):
        return False


def sections_of(image: bytes) -> list[Section]:
    """An object file's sections, in its order; struct.error or IndexError for what is none."""
    (table,) = struct.unpack_from("<Q", image, _TABLE_IN_HEADER)
    size, count, names_index = struct.unpack_from("<HHH", image, _COUNTS_IN_HEADER)
    headers = [_SECTION.unpack_from(image, table + i * size) for i in range(count)]
    names = Section(0, "", 0, *headers[names_index][4:7]).content(image)
    return [
        Section(table + i * size, _text(names, header[0]), header[1], *header[4:7])
        for i, header in enumerate(headers)
    ]


def _function(image: bytes, sections: list[Section], text: int) -> tuple[int, int, int]:
    """Where the function's symbol is in the file; its begin in the section, and its size."""
    symbols = next(s for s in sections if s.type == SHT_SYMTAB)
    names = sections[symbols.link].content(image)
    for at in range(symbols.offset, symbols.offset + symbols.size, _SYMBOL.size):
        name, info, _, section, begin, size = _SYMBOL.unpack_from(image, at)
        if section == text and info & 0xF == STT_FUNC and _text(names, name) == FUNCTION:
            return at, begin, size
    raise _unfit("no function for a filter")


def _text(names: bytes, begin: int) -> str:
    return names[begin : names.index(b"\0", begin)].decode("ascii", "replace")


def _unfit(what: str) -> XdpcapError:
    return XdpcapError(f"the XDP program has {what}; `make setup` builds it anew")
