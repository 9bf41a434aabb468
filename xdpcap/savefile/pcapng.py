"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng), checked and taken apart.

Strict where the draft says MUST, and where it says that a reader should report
an error. Either byte order, several sections; a block of unknown type is
checked for its lengths only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from xdpcap.savefile.compressed import Stream

SECTION_HEADER = 0x0A0D0D0A
INTERFACE_DESCRIPTION = 1
OBSOLETE_PACKET = 2
SIMPLE_PACKET = 3
INTERFACE_STATISTICS = 5
ENHANCED_PACKET = 6

BLOCK_NAMES = {
    SECTION_HEADER: "Section Header Block",
    INTERFACE_DESCRIPTION: "Interface Description Block",
    OBSOLETE_PACKET: "Packet Block",
    SIMPLE_PACKET: "Simple Packet Block",
    INTERFACE_STATISTICS: "Interface Statistics Block",
    ENHANCED_PACKET: "Enhanced Packet Block",
}

_BYTE_ORDERS = {bytes.fromhex("4d3c2b1a"): "<", bytes.fromhex("1a2b3c4d"): ">"}

# Option code -> name and kind, by block type. A kind is a struct format, "time" (two
# words, the upper first), a number of bytes, "text", or "bytes" of any length.
_COMMON = {1: ("opt_comment", "text")} | dict.fromkeys(
    (2988, 2989, 19372, 19373), ("opt_custom", "bytes")
)
_OPTIONS: dict[int, dict[int, tuple[str, str | int]]] = {
    SECTION_HEADER: {
        2: ("shb_hardware", "text"),
        3: ("shb_os", "text"),
        4: ("shb_userappl", "text"),
    },
    INTERFACE_DESCRIPTION: {
        2: ("if_name", "text"),
        3: ("if_description", "text"),
        4: ("if_IPv4addr", 8),
        5: ("if_IPv6addr", 17),
        6: ("if_MACaddr", 6),
        7: ("if_EUIaddr", 8),
        8: ("if_speed", "Q"),
        9: ("if_tsresol", "B"),
        10: ("if_tzone", 4),
        11: ("if_filter", "bytes"),
        12: ("if_os", "text"),
        13: ("if_fcslen", "B"),
        14: ("if_tsoffset", "q"),
        15: ("if_hardware", "text"),
        16: ("if_txspeed", "Q"),
        17: ("if_rxspeed", "Q"),
        18: ("if_iana_tzname", "text"),
    },
    OBSOLETE_PACKET: {2: ("pack_flags", "I"), 3: ("pack_hash", "bytes")},
    INTERFACE_STATISTICS: {
        2: ("isb_starttime", "time"),
        3: ("isb_endtime", "time"),
        4: ("isb_ifrecv", "Q"),
        5: ("isb_ifdrop", "Q"),
        6: ("isb_filteraccept", "Q"),
        7: ("isb_osdrop", "Q"),
        8: ("isb_usrdeliv", "Q"),
    },
    ENHANCED_PACKET: {
        2: ("epb_flags", "I"),
        3: ("epb_hash", "bytes"),
        4: ("epb_dropcount", "Q"),
        5: ("epb_packetid", "Q"),
        6: ("epb_queue", "I"),
        7: ("epb_verdict", "bytes"),
        8: ("epb_processid_threadid", 8),
    },
}
_REPEATABLE = {
    "opt_comment",
    "opt_custom",
    "if_IPv4addr",
    "if_IPv6addr",
    "pack_hash",
    "epb_hash",
    "epb_verdict",
}
# An option of a wrong length is kept as if unknown, which the draft allows (3.5);
# not these, on which every time in the section depends.
_NEEDED = {"if_tsresol", "if_tsoffset"}


@dataclass(frozen=True, slots=True)
class Block:
    """A whole block. `body` is what stands between the two lengths, as written.

    `fields` has the fixed part by name (times as `ts_ns`), `options` the
    options by the draft's names: numbers as int, texts as str, times as ns
    since 1970 UTC, repeatable ones as a list. Unknown ones and those of a wrong
    length are the raw bytes, under `option_<code>`.
    """

    offset: int
    type: int
    byteorder: str
    body: bytes
    fields: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the draft calls it."""
        return BLOCK_NAMES.get(self.type, f"block of type 0x{self.type:08x}")


class _Bad(Exception):
    """Why a block is damaged; where is known further out."""


def blocks(stream: Stream, first: bytes) -> Iterator[Block]:
    """The blocks of a file of which `first`, its first four bytes, has been read."""
    section = _Section("<", [])
    offset, head = 0, first
    while head:
        if head == b"\x0a\x0d\x0d\x0a":
            section = _Section("", [])
        block_type, byteorder, body = _frame(stream, offset, head, section)
        section.byteorder = byteorder
        try:
            block = section.take_apart(offset, block_type, body)
        except _Bad as bad:
            name = BLOCK_NAMES.get(block_type, "block")
            raise stream.damage(offset, f"{name}: {bad}") from None
        yield block
        offset, head = stream.offset, stream.read(4)


def _frame(stream: Stream, offset: int, head: bytes, section: _Section) -> tuple[int, str, bytes]:
    """Type, byte order and body of the block whose first four bytes are `head` (section 3.1)."""
    is_section = not section.byteorder
    more = stream.read(8 if is_section else 4)
    if len(head) + len(more) < (12 if is_section else 8):
        raise stream.damage(offset, f"a block header cut off after {len(head) + len(more)} bytes")
    length_bytes, magic = more[:4], more[4:]
    byteorder = _BYTE_ORDERS.get(magic, "") if is_section else section.byteorder
    if not byteorder:
        raise stream.damage(offset, f"byte-order magic {magic.hex()} instead of 1a2b3c4d")
    (block_type,) = struct.unpack(byteorder + "I", head)
    (length,) = struct.unpack(byteorder + "I", length_bytes)
    if length % 4 or length < (28 if is_section else 12):
        raise stream.damage(offset, f"a block can't have a total length of {length} bytes")
    rest = stream.read(length - 8 - len(magic))
    if 8 + len(magic) + len(rest) < length:
        left = 8 + len(magic) + len(rest)
        raise stream.damage(offset, f"a block of {length} bytes, of which {left} are there")
    if rest[-4:] != length_bytes:
        (other,) = struct.unpack(byteorder + "I", rest[-4:])
        raise stream.damage(offset, f"total length {length} before the block and {other} after it")
    return block_type, byteorder, magic + rest[:-4]


@dataclass
class _Interface:
    linktype: int
    snaplen: int
    tsresol: int
    tsoffset_s: int

    def to_ns(self, ticks: int) -> int:
        """A time in this interface's units (4.2, if_tsresol and if_tsoffset) in ns."""
        if self.tsresol & 0x80:
            ns = (ticks * 1_000_000_000) >> (self.tsresol & 0x7F)
        else:
            ns = ticks * 1_000_000_000 // 10**self.tsresol
        return ns + self.tsoffset_s * 1_000_000_000


@dataclass
class _Section:
    """What later blocks of a section depend on: byte order and interfaces."""

    byteorder: str
    interfaces: list[_Interface]

    def take_apart(self, offset: int, block_type: int, body: bytes) -> Block:
        """The block with its fields and options; _Bad if they contradict the draft."""
        parsers = {
            SECTION_HEADER: self._section_header,
            INTERFACE_DESCRIPTION: self._interface_description,
            OBSOLETE_PACKET: self._packet,
            SIMPLE_PACKET: self._simple_packet,
            INTERFACE_STATISTICS: self._interface_statistics,
            ENHANCED_PACKET: self._packet,
        }
        fields: dict[str, Any] = {}
        options: dict[str, Any] = {}
        if block_type in parsers:
            fields, options = parsers[block_type](block_type, body)
        return Block(offset, block_type, self.byteorder, body, fields, options)

    def _section_header(self, kind: int, body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        _, major, minor, length = self._unpack("IHHq", body)
        # 1.2 is to be read as 1.0 (4.1).
        if major != 1 or minor not in (0, 2):
            raise _Bad(f"version {major}.{minor} instead of 1.0")
        fields = {"major": major, "minor": minor, "section_length": length}
        return fields, self._options(kind, body[16:])

    def _interface_description(
        self, kind: int, body: bytes
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        linktype, _, snaplen = self._unpack("HHI", body)
        options = self._options(kind, body[8:])
        self.interfaces.append(
            _Interface(
                linktype, snaplen, options.get("if_tsresol", 6), options.get("if_tsoffset", 0)
            )
        )
        fields = {"interface_id": len(self.interfaces) - 1, "linktype": linktype}
        return fields | {"snaplen": snaplen}, options

    def _packet(self, kind: int, body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        """Enhanced Packet Block (4.3), and the obsolete Packet Block (appendix A)."""
        if kind == ENHANCED_PACKET:
            interface_id, high, low, caplen, origlen = self._unpack("IIIII", body)
        else:
            interface_id, _, high, low, caplen, origlen = self._unpack("HHIIII", body)
        interface = self._interface(interface_id)
        if caplen > len(body) - 20:
            raise _Bad(f"a packet of {caplen} bytes in a block with room for {len(body) - 20}")
        fields = {
            "interface_id": interface_id,
            "linktype": interface.linktype,
            "ts_ns": interface.to_ns(high << 32 | low),
            "caplen": caplen,
            "origlen": origlen,
            "data": body[20 : 20 + caplen],
        }
        return fields, self._options(kind, body[20 + caplen + -caplen % 4 :])

    def _simple_packet(self, kind: int, body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        (origlen,) = self._unpack("I", body)
        interface = self._interface(0)
        caplen = min(origlen, interface.snaplen or origlen)
        if caplen > len(body) - 4:
            raise _Bad(f"a packet of {caplen} bytes in a block with room for {len(body) - 4}")
        fields = {
            "interface_id": 0,
            "linktype": interface.linktype,
            "ts_ns": None,
            "caplen": caplen,
            "origlen": origlen,
            "data": body[4 : 4 + caplen],
        }
        return fields, {}

    def _interface_statistics(
        self, kind: int, body: bytes
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        interface_id, high, low = self._unpack("III", body)
        interface = self._interface(interface_id)
        options = self._options(kind, body[12:])
        for name in ("isb_starttime", "isb_endtime"):
            if name in options:
                options[name] = interface.to_ns(options[name])
        ts_ns = interface.to_ns(high << 32 | low)
        return {"interface_id": interface_id, "ts_ns": ts_ns}, options

    def _interface(self, interface_id: int) -> _Interface:
        if interface_id >= len(self.interfaces):
            raise _Bad(
                f"interface {interface_id}, and the section has described {len(self.interfaces)}"
            )
        return self.interfaces[interface_id]

    def _unpack(self, layout: str, body: bytes) -> tuple[int, ...]:
        needed = struct.calcsize("<" + layout)
        if len(body) < needed:
            raise _Bad(f"a body of {len(body)} bytes, too short for its {needed} bytes of fields")
        return struct.unpack_from(self.byteorder + layout, body)

    def _options(self, kind: int, data: bytes) -> dict[str, Any]:
        """The option list (3.5) at the end of a body; the end marker may be missing."""
        known = _COMMON | _OPTIONS[kind]
        options: dict[str, Any] = {}
        at = 0
        while at < len(data):
            code, length = struct.unpack_from(self.byteorder + "HH", data, at)
            value = data[at + 4 : at + 4 + length]
            if len(value) < length:
                raise _Bad(f"option {code} of {length} bytes, of which {len(value)} are there")
            if code == 0:
                break
            name, form = known.get(code, (f"option_{code}", "bytes"))
            decoded = self._value(form, value)
            if decoded is None:
                if name in _NEEDED:
                    raise _Bad(f"{name} of {length} bytes")
                name, decoded = f"option_{code}", value
            if name in _REPEATABLE:
                options.setdefault(name, []).append(decoded)
            else:
                options[name] = decoded
            at += 4 + length + -length % 4
        return options

    def _value(self, form: str | int, value: bytes) -> Any:
        """An option's value, or None if its length isn't that of its form."""
        if form == "bytes":
            return value
        if form == "text":
            # A NUL ends a text (3.5), and it need not be valid UTF-8 (3.6.3).
            return value.split(b"\0", 1)[0].decode("utf-8", "replace")
        if isinstance(form, int):
            return value if len(value) == form else None
        layout = self.byteorder + ("II" if form == "time" else form)
        if len(value) != struct.calcsize(layout):
            return None
        words = struct.unpack(layout, value)
        return words[0] << 32 | words[1] if form == "time" else words[0]
