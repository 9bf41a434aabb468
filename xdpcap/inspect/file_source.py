"""Where packets to look at come from: capture files, and directories of them in order of time.

A source hands out lists of packets. A list ends where the next packet is not there yet,
so whoever shows packets shows a list whole and then flushes: what has arrived never waits
for what has not.
Owner: one thread. Frees: `close()`, idempotent, every file that is still open.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol
from urllib.parse import unquote

from xdpcap.errors import UsageError, XdpcapError
from xdpcap.packets.filter import compile_expression
from xdpcap.packets.filter.classic_bpf import Interpreter
from xdpcap.savefile import pcapng
from xdpcap.savefile.input_file import STDIN, open_source
from xdpcap.savefile.names import PART_SUFFIX
from xdpcap.savefile.packet_reader import PacketReader
from xdpcap.savefile.reader import read_blocks

# Packets of one list: of 1500 bytes each, a megabyte and a half.
BATCH = 1000

_CAPTURE_NAME = re.compile(r"\.(pcap|pcapng|cap)(\.gz|\.zst)?(\.part)?", re.IGNORECASE)
# The default template of names.py, whatever was added behind.
_RECORDED_NAME = re.compile(r"(?P<interface>.+)-q(?P<queue>\d+)-\d{8}T\d{6}\.\d{9}Z-\d{6,}\.pcap")


class Seen(NamedTuple):
    """A packet as captured, `linktype` by libpcap's number; where from is None if unknown."""

    interface: str | None
    queue: int | None
    ts_ns: int
    linktype: int
    caplen: int
    origlen: int
    data: bytes


class PacketSource(Protocol):
    """What can be looked at; `damage` has a line for each thing that could not be read."""

    damage: list[str]

    @property
    def read_count(self) -> int:
        """Packets so far, those that the filter left out included."""
        ...

    def batches(self) -> Iterator[list[Seen]]:
        """The packets that the filter takes, in order of time."""
        ...

    def close(self) -> None:
        """Let go of everything; safe to call again."""
        ...


def open_files(path: str, expression: str) -> PacketSource:
    """The packets of a capture file, of standard input ("-"), or of a directory's files.

    UsageError for what can't be opened, is no capture, or for a filter that is none.
    """
    if path != STDIN and os.path.isdir(path):
        return DirectorySource(path, expression)
    return FileSource(path, expression)


class FileSource:
    """One capture file, compressed or not."""

    def __init__(self, path: str, expression: str) -> None:
        self.damage: list[str] = []
        self._interface, self._queue = (None, None) if path == STDIN else recorded_from(path)
        self._source = open_source(path)
        self._reader = PacketReader(self._source.fd, self._source.name)
        if expression:
            compiled = compile_expression(expression, self._reader.linktype)
            self._reader.filter_by(Interpreter(compiled.instructions))

    @property
    def read_count(self) -> int:
        """Packets so far, those that the filter left out included."""
        count: int = self._reader.packet_count
        return count

    def batches(self) -> Iterator[list[Seen]]:
        """The packets that the filter takes, in the order of the file."""
        interface, queue, linktype = self._interface, self._queue, self._reader.linktype
        while packets := self._reader.read(BATCH):
            yield [
                Seen(interface, queue, ts_ns, linktype, len(data), origlen, data)
                for ts_ns, origlen, data in packets
            ]
        # A compressed stream that breaks its format is why the capture in it breaks off.
        damage = self._source.damage or self._reader.damage
        if damage is not None:
            self.damage.append(damage)

    def close(self) -> None:
        """Close the file; safe to call again."""
        self._reader.close()


class DirectorySource:
    """The capture files right in a directory, one stream in order of time.

    A recording has a file a queue at a time, one after the other. Each file is looked into
    for the time of its first packet, and opened again when that time has come: only files
    that overlap are open together, however many there are. Within a file its own order stays.
    """

    def __init__(self, path: str, expression: str) -> None:
        self.damage: list[str] = []
        self._expression = expression
        self._closed_count = 0
        self._open: dict[str, FileSource] = {}
        names = capture_names(path)
        if not names:
            raise UsageError(
                f"{path}: nothing called *.pcap or *.pcapng, with .gz, .zst or .part or without, "
                "in this directory; name another, or a file"
            )
        begun = [(self._begin_ns(name), name) for name in names]
        self._files = [(begin_ns, name) for begin_ns, name in begun if begin_ns is not None]

    @property
    def read_count(self) -> int:
        """Packets so far, those that the filter left out included."""
        return self._closed_count + sum(file.read_count for file in self._open.values())

    def batches(self) -> Iterator[list[Seen]]:
        """The packets that the filter takes, by their times."""
        batch: list[Seen] = []
        for packet in self._merged():
            batch.append(packet)
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def close(self) -> None:
        """Close what is open; safe to call again."""
        for name in list(self._open):
            self._end(name)

    def _merged(self) -> Iterator[Seen]:
        # (time, number of the file, its next packet or None, the packets after that)
        heap: list[tuple[int, int, Seen | None, Iterator[Seen]]] = [
            (begin_ns, number, None, self._packets(name))
            for number, (begin_ns, name) in enumerate(self._files)
        ]
        heapq.heapify(heap)
        while heap:
            _, number, packet, following = heap[0]
            if packet is not None:
                yield packet
            packet = next(following, None)
            if packet is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (packet.ts_ns, number, packet, following))

    def _packets(self, name: str) -> Iterator[Seen]:
        """One file, opened at the first packet and closed after the last."""
        try:
            file = self._open[name] = FileSource(name, self._expression)
        except UsageError as error:
            if str(error).startswith("filter "):
                raise
            self._note(name, str(error))
            return
        for batch in file.batches():
            yield from batch
        self._end(name)

    def _end(self, name: str) -> None:
        file = self._open.pop(name)
        for line in file.damage:
            self._note(name, line)
        self._closed_count += file.read_count
        file.close()

    def _begin_ns(self, name: str) -> int | None:
        """The time of a file's first packet; None when it has none to show."""
        try:
            file = FileSource(name, "")
        except XdpcapError as error:
            self._note(name, str(error))
            return None
        try:
            first = next(file.batches(), None)
        finally:
            file.close()
        if first is None:
            for line in file.damage:
                self._note(name, line)
            return None
        return first[0].ts_ns

    def _note(self, name: str, line: str) -> None:
        # What is being written, or was when its recorder was killed, ends anywhere.
        if not (name.endswith(PART_SUFFIX) and ("truncated" in line or "empty" in line)):
            self.damage.append(line)


def capture_names(directory: str) -> list[str]:
    """The capture files right in `directory` by their names, sorted; UsageError if unreadable."""
    try:
        with os.scandir(directory) as entries:
            found = [
                entry.path
                for entry in entries
                if _CAPTURE_NAME.search(entry.name) and entry.is_file()
            ]
    except OSError as error:
        raise UsageError(f"{directory}: {error.strerror}; name another directory") from None
    return sorted(found)


def recorded_from(path: str) -> tuple[str | None, int | None]:
    """The interface and the queue that a recording is of, as far as its blocks or name tell."""
    found = _RECORDED_NAME.match(os.path.basename(path))
    queue = None if found is None else int(found["queue"])
    interface = _described_interface(path) if os.path.isfile(path) else None
    if interface is None and found is not None:
        # As `names.safe_text` wrote it.
        interface = unquote(found["interface"])
    return interface, queue


def _described_interface(path: str) -> str | None:
    """The one interface that a pcapng file's first blocks describe by name."""
    names: list[str | None] = []
    # No pcapng, compressed or damaged: whoever reads its packets says what there is to say.
    with contextlib.suppress(XdpcapError):
        for block in read_blocks(path):
            if block.type == pcapng.INTERFACE_DESCRIPTION:
                names.append(block.options.get("if_name"))
            elif names:
                break
    return names[0] if len(names) == 1 else None
