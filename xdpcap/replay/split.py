"""Which packets leave on the client's side and which on the server's, found out and written down.

`split_files` finds the sides of whole files, `write_cache` writes them into a cache
file, and `open_sides` gives a replay what tells the side of each of its packets: the
servers' prefixes themselves, or a cache. A cache belongs to the files it was made of,
by size and SHA-256: with any other it is refused.

The format is JSON; docs/replay.md describes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdpcap.errors import UsageError, XdpcapError
from xdpcap.options.addresses import Network
from xdpcap.options.replay import ReplayOptions
from xdpcap.packets.client_server import PrefixSides, RecordedSides, runs_of, spread
from xdpcap.packets.conversations import FlowSides
from xdpcap.packets.packet_set import PacketSet
from xdpcap.savefile.batch_reader import BatchReader
from xdpcap.savefile.input_file import open_source

FORMAT = "xdpcap split"
VERSION = 1
MIB = 1 << 20
# Packets are read in portions of so many bytes, so that memory stays bounded.
PORTION_BYTES = 8 * MIB
# libpcap's limit: no packet is too long to have a side.
LONGEST = 1 << 18
# More than any file holds: a cache that says so was not made by this program.
MOST_PACKETS = 1 << 36
# Any will do: the Ethernet header that the reader puts before raw IP is not looked at.
NO_MACS = bytes(12)


@dataclass(frozen=True)
class FileSplit:
    """The sides of one file's packets: lengths of runs, the client's first (0 for none).

    `size` in bytes and `sha256` are of the file as it lies there, compressed or not.
    """

    name: str
    size: int
    sha256: str
    runs: tuple[int, ...]

    @property
    def client_packets(self) -> int:
        """Packets that clients sent."""
        return sum(self.runs[0::2])

    @property
    def server_packets(self) -> int:
        """Packets that servers sent."""
        return sum(self.runs[1::2])

    @property
    def packets(self) -> int:
        """All packets of the file."""
        return sum(self.runs)


@dataclass(frozen=True)
class Split:
    """What `split_files` found: by `servers`, or if there are none by the conversations.

    `decided_by` counts conversations: who opened them (`handshake`), the lower port
    (`ports`), other conversations of the same hosts (`hosts`), who sent `first`.
    `damage` has a line for each file that could not be read to its end.
    """

    files: tuple[FileSplit, ...]
    servers: tuple[Network, ...]
    decided_by: Mapping[str, int]
    damage: tuple[str, ...]


# -------------------------------------------------------------------------------- finding


def split_files(paths: Sequence[str], servers: Sequence[Network] = ()) -> Split:
    """The sides of all packets of these files, together: a conversation may span them.

    With `servers` their packets are the server's side and all others the client's.
    Raises UsageError for a file that is none or no capture.
    """
    identities = [_identity(path) for path in paths]
    damage: list[str] = []
    counts: list[int] = []
    sides, decided_by = bytearray(), {}
    if servers:
        prefixes = PrefixSides(servers)
        for packets, offset in _portions(paths, counts, damage):
            spread(packets, prefixes.of(packets), sides, offset)
        found = bytes(sides)
    else:
        flows = FlowSides()
        for packets, offset in _portions(paths, counts, damage):
            flows.add(packets, offset)
        found, decided_by = flows.decide(), flows.decided_by
    # Packets at the end that are too short to be sent have no side yet.
    found = found.ljust(sum(counts), b"\0")
    files, begun = [], 0
    for path, (size, sha256), count in zip(paths, identities, counts, strict=True):
        runs = tuple(runs_of(found[begun : begun + count]))
        files.append(FileSplit(os.path.basename(path), size, sha256, runs))
        begun += count
    return Split(tuple(files), tuple(servers), decided_by, tuple(damage))


def _portions(
    paths: Iterable[str], counts: list[int], damage: list[str]
) -> Iterator[tuple[PacketSet, int]]:
    """Packets with what is to be added to their numbers; `counts` grows by each file's."""
    for path in paths:
        offset = sum(counts)
        source = open_source(path)
        with BatchReader(source.fd, source.name, longest=LONGEST, macs=NO_MACS) as reader:
            packets = PacketSet()
            while not reader.ended:
                packets.clear()
                reader.read(packets, max_bytes=PORTION_BYTES)
                yield packets, offset
            counts.append(reader.packet_count)
        # A compressed stream that breaks its format is why the capture in it breaks off.
        found = source.damage or reader.damage
        if found is not None:
            damage.append(found)


def _identity(path: str) -> tuple[int, str]:
    """Size and SHA-256 of a regular file."""
    try:
        # A pipe that nobody writes into would not open.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{path}: not a file; a cache belongs to a capture file")
            return status.st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name a capture file") from None


# -------------------------------------------------------------------------- the cache file


def cache_text(split: Split) -> str:
    """The cache file's content."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "by": "prefixes" if split.servers else "conversations",
        "servers": [str(network) for network in split.servers],
        "files": [
            {
                "name": file.name,
                "size": file.size,
                "sha256": file.sha256,
                "packets": file.packets,
                "runs": file.runs,
            }
            for file in split.files
        ],
    }
    return json.dumps(document) + "\n"


def write_cache(path: str, split: Split) -> None:
    """Write the cache so that `path` is the old file or the whole new one, never a part."""
    directory = os.path.dirname(path) or "."
    try:
        fd, part = tempfile.mkstemp(prefix=f".{os.path.basename(path)}-", dir=directory)
        try:
            with open(fd, "w", encoding="ascii") as file:
                file.write(cache_text(split))
                # mkstemp lets nobody else read it; as other new files are.
                os.fchmod(fd, 0o666 & ~_umask())
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
    except OSError as error:
        raise XdpcapError(f"{path}: {error.strerror}; choose another place with -o") from None


def read_cache(path: str, files: Sequence[str]) -> RecordedSides:
    """The sides of `files`, in their order, as the cache `path` has them.

    Packets are numbered over all of them. Raises UsageError for what is no cache, and
    for a file that it was not made of.
    """
    known = {(file.size, file.sha256): file for file in _parse(path, _load(path))}
    runs = []
    for name in files:
        entry = known.get(_identity(name))
        if entry is None:
            raise UsageError(
                f"--split {path}: made of other files than {name}, or of what was in it before; "
                f"make it anew with `xdpcap split {name} -o {path}`"
            )
        runs.append(entry.runs)
    return RecordedSides(runs)


def open_sides(options: ReplayOptions) -> Callable[[PacketSet], bytes] | None:
    """What tells the sides of a replay's packets, a byte each; None without --split.

    Sides are told by the addresses that packets have in the file: before any of them
    is rewritten.
    """
    if options.split is None:
        return None
    if options.split_prefixes is not None:
        sides: PrefixSides | RecordedSides = PrefixSides(options.split_prefixes)
    else:
        sides = read_cache(options.split, options.files)
    return sides.of


def _load(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise UsageError(
            f"--split {path}: neither prefixes such as 10.0.0.0/8 nor a file that can be read "
            f"({error.strerror}); make one with `xdpcap split`"
        ) from None
    except (ValueError, RecursionError):
        raise _no_cache(path, "no JSON") from None


def _no_cache(path: str, why: str) -> UsageError:
    return UsageError(
        f"--split {path}: no cache of `xdpcap split` ({why}); make one with `xdpcap split`"
    )


def _parse(path: str, document: Any) -> Iterator[FileSplit]:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _no_cache(path, f"no format {FORMAT!r} in it")
    if document.get("version") != VERSION:
        raise _no_cache(path, f"version {document.get('version')!r}, {VERSION} is known")
    files = document.get("files")
    if not isinstance(files, list):
        raise _no_cache(path, "no list of files in it")
    for file in files:
        if not (isinstance(file, dict) and _is_sound(file)):
            raise _no_cache(path, "what it says of a file contradicts itself")
        runs = tuple(file["runs"])
        yield FileSplit(str(file.get("name")), file["size"], file["sha256"], runs)


def _is_sound(file: Mapping[str, Any]) -> bool:
    runs, packets = file.get("runs"), file.get("packets")
    return (
        isinstance(file.get("size"), int)
        and isinstance(file.get("sha256"), str)
        and isinstance(runs, list)
        and all(type(run) is int and run >= 0 for run in runs)
        and sum(runs) == packets
        and sum(runs) <= MOST_PACKETS
    )


def _umask() -> int:
    """The process's file mode mask, which can be read only by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
