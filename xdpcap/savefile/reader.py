"""Reads capture files back: the strict reader of the tests and of small tools.

In Python, one packet at a time: meant to be right, not fast. A file that breaks
its format raises `DamageError` after everything that stands before the
damage; with `tolerant` the iteration just ends there, which is how the `.part`
file of a killed recorder is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from xdpcap.errors import XdpcapError
from xdpcap.savefile import pcap, pcapng
from xdpcap.savefile.compressed import DamageError, Stream
from xdpcap.savefile.packet import Packet
from xdpcap.savefile.pcapng import Block

__all__ = ["Block", "DamageError", "Packet", "read_any", "read_blocks", "read_packets"]

Source = str | os.PathLike[str] | BinaryIO

PACKET_BLOCKS = (pcapng.ENHANCED_PACKET, pcapng.SIMPLE_PACKET, pcapng.OBSOLETE_PACKET)


def read_packets(source: Source, *, tolerant: bool = False) -> Iterator[Packet]:
    """The packets of a pcap or pcapng file, in the file's order.

    Raises UsageError if the file can't be opened, XdpcapError if it is of
    another kind, and DamageError at a damaged place unless `tolerant`.
    """
    with Stream(source) as stream:
        try:
            magic = _magic(stream)
            if magic in pcap.MAGICS:
                yield from pcap.packets(stream, magic)
            else:
                yield from _block_packets(pcapng.blocks(stream, magic))
        except DamageError:
            if not tolerant:
                raise


def read_blocks(source: Source, *, tolerant: bool = False) -> Iterator[Block]:
    """The blocks of a pcapng file, packets and others; errors as for `read_packets`."""
    with Stream(source) as stream:
        try:
            magic = _magic(stream)
            if magic in pcap.MAGICS:
                raise XdpcapError(f"{stream.name}: a pcap file has no blocks; read its packets")
            yield from pcapng.blocks(stream, magic)
        except DamageError:
            if not tolerant:
                raise


def read_any(source: Source) -> Iterator[Packet | Block]:
    """The packets of a pcap file, or the blocks of a pcapng file; errors as for `read_packets`.

    The first four bytes are read at once, a file object stays open.
    """
    stream = Stream(source)
    magic = _magic(stream)
    return pcap.packets(stream, magic) if magic in pcap.MAGICS else pcapng.blocks(stream, magic)


def _magic(stream: Stream) -> bytes:
    """The first four bytes, if they are those of a format that is read here."""
    magic = stream.read(4)
    if len(magic) < 4:
        raise stream.damage(0, f"a file of {len(magic)} bytes holds no header")
    if magic not in pcap.MAGICS and magic != b"\x0a\x0d\x0d\x0a":
        raise XdpcapError(
            f"{stream.name}: neither pcap nor pcapng, it begins with {magic.hex(' ')}; "
            "compressed files need unpacking first"
        )
    return magic


def _block_packets(blocks: Iterator[Block]) -> Iterator[Packet]:
    for block in blocks:
        if block.type in PACKET_BLOCKS:
            f = block.fields
            yield Packet(
                f["ts_ns"],
                f["caplen"],
                f["origlen"],
                f["data"],
                f["interface_id"],
                f["linktype"],
                block.options,
            )
