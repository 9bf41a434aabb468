"""Packets of a pcap file (draft-ietf-opsawg-pcap, sections 4 and 5).

Micro- and nanosecond files of either byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from xdpcap.savefile.compressed import Stream
from xdpcap.savefile.packet import Packet

#: The first four bytes, as written: byte order and nanoseconds in a unit of the fraction.
MAGICS = {
    bytes.fromhex("d4c3b2a1"): ("<", 1000),
    bytes.fromhex("a1b2c3d4"): (">", 1000),
    bytes.fromhex("4d3cb2a1"): ("<", 1),
    bytes.fromhex("a1b23c4d"): (">", 1),
}

_HEADER_BYTES = 24
_RECORD_BYTES = 16
# FCS length (4 bits), R, P, then 10 bits that must be 0, then the link type.
_LINKTYPE_RESERVED = 0x0BFF0000


def packets(stream: Stream, magic: bytes) -> Iterator[Packet]:
    """The packets of a file of which `magic`, its first four bytes, has been read."""
    order, unit_ns = MAGICS[magic]
    linktype = _header(stream, order)
    record = struct.Struct(order + "IIII")
    while True:
        offset = stream.offset
        header = stream.read(_RECORD_BYTES)
        if not header:
            return
        if len(header) < _RECORD_BYTES:
            raise stream.damage(offset, f"a record header of {len(header)} bytes instead of 16")
        seconds, fraction, caplen, origlen = record.unpack(header)
        data = stream.read(caplen)
        if len(data) < caplen:
            raise stream.damage(offset, f"a packet of {caplen} bytes, of which {len(data)} follow")
        ts_ns = seconds * 1_000_000_000 + fraction * unit_ns
        yield Packet(ts_ns, caplen, origlen, data, 0, linktype, {})


def _header(stream: Stream, order: str) -> int:
    """Check the rest of the file header and return the link type."""
    rest = stream.read(_HEADER_BYTES - 4)
    if len(rest) < _HEADER_BYTES - 4:
        raise stream.damage(0, f"a file header of {4 + len(rest)} bytes instead of 24")
    major, minor, _, _, _, link = struct.unpack(order + "HHIIII", rest)
    if (major, minor) != (2, 4):
        raise stream.damage(4, f"version {major}.{minor} instead of 2.4")
    if link & _LINKTYPE_RESERVED:
        raise stream.damage(20, f"reserved bits in the link type 0x{link:08x}")
    return int(link & 0xFFFF)
