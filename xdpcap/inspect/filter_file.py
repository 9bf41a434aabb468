"""Capture files through a filter: every packet that matches, as it was, and nothing else.

What is pcapng stays pcapng block for block: sections, interfaces, comments and what this program
does not know go over byte for byte, and packet blocks that do not match are left out. From one
format into the other a packet keeps its time to the nanosecond, its bytes and its length.

An expression means something else on another linktype, so it is compiled for each that occurs.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from xdpcap.errors import UsageError, XdpcapError
from xdpcap.packets.filter import ETHERNET, Compiled, compile_expression
from xdpcap.savefile import headers
from xdpcap.savefile.input_file import open_source
from xdpcap.savefile.packet import Packet
from xdpcap.savefile.pcapng import Block
from xdpcap.savefile.reader import PACKET_BLOCKS, DamageError, read_any

STDOUT = "-"
FORMATS = {".pcap": "pcap", ".pcapng": "pcapng"}
WRITE_BYTES = 1 << 20


@dataclass
class Filtered:
    """What came of it: packets read and kept; `damage` is why reading ended early, or None."""

    packets: int = 0
    kept: int = 0
    damage: str | None = None


class Expression:
    """An expression for whichever linktypes there are.  Raises UsageError where it is none."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._compiled: dict[int, Compiled] = {ETHERNET: compile_expression(text)}

    def matches(self, linktype: int, data: bytes, origlen: int) -> bool:
        """Whether a packet of a linktype matches."""
        compiled = self._compiled.get(linktype)
        if compiled is None:
            compiled = self._compiled[linktype] = compile_expression(self._text, linktype)
        return compiled.matches(data, origlen)


def filter_file(source: str, target: str, text: str) -> Filtered:
    """Copy what matches from one file into another; - is standard input or output.

    The target is the old file or the whole new one, never a part. Raises UsageError for
    an expression, or a file, that is none; what stands before damage is copied.
    """
    suffix = os.path.splitext(target)[1]
    if target != STDOUT and suffix not in FORMATS:
        raise UsageError(f"{target}: neither .pcapng nor .pcap; the name's end tells the format")
    expression = Expression(text)
    opened = open_source(source)
    with _Named(opened.fd, opened.name) as file, _writing(target) as out:
        result = Filtered()
        try:
            for piece in _filtered(file, FORMATS.get(suffix), expression, result):
                out.write(piece)
        except DamageError as damage:
            # A compressed stream that breaks its format is why the capture in it breaks off.
            result.damage = opened.damage or str(damage)
        out.flush()
    return result


class _Named:
    """A descriptor as a file whose damage is told under the source's name."""

    def __init__(self, fd: int, name: str) -> None:
        self._file = open(fd, "rb", buffering=WRITE_BYTES)  # noqa: SIM115 (closed on exit)
        self.name = name
        self.read = self._file.read

    def __enter__(self) -> BinaryIO:
        return self  # type: ignore[return-value]

    def __exit__(self, *exc: object) -> None:
        self._file.close()


def _filtered(
    file: BinaryIO, wanted: str | None, expression: Expression, result: Filtered
) -> Iterator[bytes]:
    """What is to be written, in the format wanted or that of the file."""
    records = read_any(file)
    first = next(records, None)
    if first is None:
        # A pcap file without packets; pcapng has a section header at least.
        yield _begin(wanted or "pcap", ETHERNET)
        return
    found: Iterator[Packet | Block] = chain([first], records)
    if isinstance(first, Block) and wanted != "pcap":
        for block in found:
            assert isinstance(block, Block)
            if _keep(block, expression, result):
                yield _as_it_was(block)
        return
    yield from _converted(file.name, found, wanted or "pcap", expression, result)


def _converted(
    name: str,
    found: Iterator[Packet | Block],
    wanted: str,
    expression: Expression,
    result: Filtered,
) -> Iterator[bytes]:
    """A file made anew, of one linktype."""
    linktype: int | None = None
    for record in found:
        packet = _packet(record)
        if packet is None or not _keep(record, expression, result):
            continue
        if linktype is None:
            linktype = packet.linktype
            yield _begin(wanted, linktype)
        if packet.linktype != linktype:
            raise XdpcapError(
                f"{name}: packets of linktypes {linktype} and {packet.linktype}, and a pcap file "
                "has one; choose a name that ends in .pcapng, or a filter for one of them"
            )
        write = _enhanced if wanted == "pcapng" else headers.pcap_record
        yield write(packet.ts_ns or 0, packet.data, packet.origlen)
    if linktype is None:
        yield _begin(wanted, ETHERNET)


def _keep(record: Packet | Block, expression: Expression, result: Filtered) -> bool:
    """Whether a record goes over; those without a packet do."""
    packet = _packet(record)
    if packet is None:
        return True
    matches = expression.matches(packet.linktype, packet.data, packet.origlen)
    result.packets += 1
    result.kept += matches
    return matches


def _packet(record: Packet | Block) -> Packet | None:
    if isinstance(record, Packet):
        return record
    if record.type not in PACKET_BLOCKS:
        return None
    f = record.fields
    return Packet(
        f["ts_ns"], f["caplen"], f["origlen"], f["data"], f["interface_id"], f["linktype"], {}
    )


def _as_it_was(block: Block) -> bytes:
    """The bytes of a block; the total length stands at both ends (3.1)."""
    body = block.body
    if block.type == headers.SECTION_HEADER:
        # A section says how long it is (4.1), and may become shorter: -1 leaves it open.
        body = body[:8] + b"\xff" * 8 + body[16:]
    length = struct.pack(block.byteorder + "I", 12 + len(body))
    return struct.pack(block.byteorder + "I", block.type) + length + body + length


def _begin(wanted: str, linktype: int) -> bytes:
    if wanted == "pcap":
        return headers.pcap_header(0, linktype)
    section = headers.section_header("", "", headers.APPLICATION)
    return section + headers.interface_block(snaplen=0, name="", linktype=linktype)


def _enhanced(ts_ns: int, data: bytes, origlen: int) -> bytes:
    return headers.enhanced_packet(0, ts_ns, data, origlen)


@contextlib.contextmanager
def _writing(target: str) -> Iterator[BinaryIO]:
    """Standard output, or a file that gets its name when all is written."""
    if target == STDOUT:
        yield sys.stdout.buffer
        return
    directory, name = os.path.split(target)
    try:
        fd, part = tempfile.mkstemp(prefix=f".{name}-", dir=directory or ".")
        try:
            with open(fd, "wb", buffering=WRITE_BYTES) as file:
                yield file
                mask = os.umask(0o077)
                os.umask(mask)
                # mkstemp lets nobody else read it; as other new files are.
                os.fchmod(fd, 0o666 & ~mask)
            os.replace(part, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
    except BrokenPipeError:
        raise
    except OSError as error:
        raise XdpcapError(f"{target}: {error.strerror}; choose another place") from None
