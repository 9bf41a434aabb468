"""bpf/xdpcap_abi.h as the compiler sees it, read from the header so that it can't drift.

Knows what the header uses: `#define NAME number`, enums with values, and structs of
__u16, __u32 and __u64.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

HEADER = Path(__file__).parents[2] / "bpf" / "xdpcap_abi.h"
CODES = {"__u16": "H", "__u32": "I", "__u64": "Q"}

_text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)


def _number(text: str) -> int:
    """A C integer constant: decimal, hexadecimal, or `(1u << n)`."""
    shift = re.fullmatch(r"\((\d+)u? << (\d+)\)", text)
    if shift:
        return int(shift[1]) << int(shift[2])
    return int(text.rstrip("uU"), 0)


def _constants() -> dict[str, int]:
    defines = re.findall(
        r"^#define\s+(\w+)\s+(\(\d+u? << \d+\)|0x[0-9a-fA-F]+u?|\d+u?)\s*$", _text, re.M
    )
    enumerators = re.findall(r"^\t(XDPCAP_\w+) = (\w+),", _text, re.M)
    return {name: _number(value) for name, value in defines + enumerators}


def _fields(name: str) -> list[tuple[str, str]]:
    """(type, field) of every member of a struct, in order."""
    body = re.search(rf"^struct {name} \{{(.*?)^\}};", _text, re.M | re.S)
    assert body, f"{HEADER.name} has no struct {name}"
    members = [line.strip() for line in body[1].split(";") if line.strip()]
    fields = []
    for member in members:
        match = re.fullmatch(r"(__u16|__u32|__u64)\s+(\w+)", member)
        assert match, f"{name}: {member!r} is beyond this reader"
        fields.append((match[1], match[2]))
    return fields


CONSTANTS = _constants()
META_FIELDS = _fields("xdpcap_meta")
# "@": the compiler's own alignment, padding included.
META = struct.Struct("@" + "".join(CODES[kind] for kind, _ in META_FIELDS))


def read_meta(data: bytes) -> dict[str, Any]:
    """A `struct xdpcap_meta` as a dict of its fields."""
    names = [name for _, name in META_FIELDS]
    return dict(zip(names, META.unpack(data), strict=True))
