"""Where a session's records go: a directory of files, or standard output.

Both make a chain of files a queue, know what was completed, and are finished once all
workers have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from xdpcap.net import Link
from xdpcap.options.record import RecordOptions
from xdpcap.record.capture import SharedLimit
from xdpcap.record.file_chain import Closer, FileChain
from xdpcap.record.ledger import QueueAccount
from xdpcap.record.pipe_output import Pipe, PipeChain
from xdpcap.savefile import headers
from xdpcap.savefile.directory import Directory, check_directory
from xdpcap.savefile.names import NameTemplate
from xdpcap.savefile.sink import StreamLock


def open_output(
    options: RecordOptions, sources: Sequence[tuple[str, int]], report: Callable[[str], None]
) -> DirectoryOutput | PipeOutput:
    """The output that `options` names, checked; `sources` are (interface, queue) pairs."""
    if options.to_stdout:
        return PipeOutput(options)
    return DirectoryOutput(options, sources, report)


class Described(NamedTuple):
    """An interface for a file's header, and what is to be said of its packets.

    `tsoffset_s` are the seconds that a reader adds to their times.
    """

    link: Link
    comments: Sequence[str] = ()
    tsoffset_s: int = 0


def _interface_block(options: RecordOptions, described: Described) -> bytes:
    link = described.link
    return headers.interface_block(
        snaplen=options.snaplen,
        name=link.name,
        description=link.alias or link.driver or None,
        mac=bytes.fromhex(link.mac.replace(":", "")) if link.mac else None,
        speed_bps=link.speed_mbps * 1_000_000 if link.speed_mbps else None,
        filter=options.filter,
        os=headers.host_os(),
        comments=described.comments,
        tsoffset_s=described.tsoffset_s,
    )


def _section_header() -> bytes:
    return headers.section_header(headers.host_hardware(), headers.host_os(), headers.APPLICATION)


class DirectoryOutput:
    """Rotating files in a directory."""

    stream_lock: StreamLock | None = None

    def __init__(
        self,
        options: RecordOptions,
        sources: Sequence[tuple[str, int]],
        report: Callable[[str], None],
    ) -> None:
        self._options = options
        self._report = report
        self._names = NameTemplate(options.name_template, ext=options.format)
        self._names.check(sources, options.rotates)
        self._directory = Directory(
            options.output,
            report=report,
            pattern=self._names.pattern(options.interfaces),
            keep_files=options.keep_files,
            keep_size_bytes=options.keep_size_bytes,
            post_rotate=options.post_rotate,
        )
        stale = self._directory.stale_parts()
        if stale:
            report(
                f"{len(stale)} unfinished file{'s' if len(stale) > 1 else ''} of an earlier "
                f"recording here, such as {stale[-1]}; readable up to its last flush"
            )
        self._closer = Closer(self._directory)
        self._headers: dict[str, bytes] = {}
        self._problems: list[str] | None = None

    @property
    def place(self) -> str:
        """The directory, for people."""
        return self._options.output

    def check(self) -> None:
        """Raise if files can't be written any more, as after giving up root."""
        check_directory(self._options.output)

    def describe(self, interfaces: Iterable[Described]) -> None:
        """Make the file headers from what the interfaces are and what is to be said of them."""
        for described in interfaces:
            if self._options.format == "pcap":
                header = headers.pcap_header(self._options.snaplen)
            else:
                header = _section_header() + _interface_block(self._options, described)
            self._headers[described.link.name] = header

    def make_chain(self, interface: str, queue: int, limit: SharedLimit | None) -> FileChain:
        """The chain of one queue's files."""
        return FileChain(
            self._directory,
            self._closer,
            make_name=lambda start_ns, n: self._name(interface, queue, start_ns, n),
            header=self._headers[interface],
            with_statistics=self._options.format == "pcapng",
            limit=limit,
        )

    def _name(self, interface: str, queue: int, start_ns: int, sequence: int) -> str:
        """The template's name; a template that never changes gets the number added.

        Without a rotation rule such a template is accepted, but SIGHUP and a lost link
        rotate all the same.
        """
        name = self._names.render(interface, queue, start_ns, sequence)
        if sequence > 1 and name == self._names.render(interface, queue, 0, 1):
            stem, dot, ext = name.rpartition(".")
            return f"{stem}-{sequence:06d}{dot}{ext}" if dot else f"{name}-{sequence:06d}"
        return name

    def finish(self, rows: Iterable[QueueAccount]) -> list[str]:
        """Complete all files; returns what went wrong.  After the workers have ended."""
        if self._problems is None:
            self._closer.close()
            self._directory.close()
            self._problems = self._closer.errors
        return self._problems

    @property
    def files(self) -> list[dict[str, Any]]:
        """The complete files as the report lists them."""
        return [
            {"path": file.path, "packets": file.packets, "bytes": file.bytes}
            for file in self._directory.files
        ]

    def close(self) -> None:
        """Complete all files and tell what went wrong, unless finish() has; idempotent."""
        if self._problems is None:
            for problem in self.finish(()):
                self._report(problem)


class PipeOutput:
    """One stream on standard output."""

    def __init__(self, options: RecordOptions) -> None:
        self._options = options
        self._pipe = Pipe()
        self.stream_lock: StreamLock | None = self._pipe.lock

    @property
    def place(self) -> str:
        """The output, for people."""
        return "standard output"

    def check(self) -> None:
        """An open pipe stays writable whoever we are."""

    def describe(self, interfaces: Iterable[Described]) -> None:
        """Write the headers of the stream."""
        if self._options.format == "pcap":
            self._pipe.write(headers.pcap_header(self._options.snaplen))
            return
        self._pipe.write(_section_header())
        for described in interfaces:
            self._pipe.write(_interface_block(self._options, described))

    def make_chain(self, interface: str, queue: int, limit: SharedLimit | None) -> PipeChain:
        """A queue's records on the pipe."""
        return PipeChain(self._pipe)

    def finish(self, rows: Iterable[QueueAccount]) -> list[str]:
        """Nothing is left to complete: a stream ends when its writer does."""
        return []

    @property
    def files(self) -> list[dict[str, Any]]:
        """None: the packets went to the pipe."""
        return []

    def close(self) -> None:
        """Close our descriptor; idempotent."""
        self._pipe.close()
