"""What a recording left, read back by the strict reader and by other people's tools."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from recorder import Recorder, Result
from timeouts import PATIENCE

from xdpcap.bench.lab.frames import frame_number
from xdpcap.savefile.packet import Packet
from xdpcap.savefile.reader import read_blocks, read_packets

INTERFACE_STATISTICS = 5
# The block as the recorder writes it: two times and five counters.
INTERFACE_STATISTICS_BYTES = 112


def packets(paths: Iterable[Path]) -> list[Packet]:
    """The packets of the files, one file after the other; damage anywhere fails the test."""
    return [packet for path in paths for packet in read_packets(path)]


def contents(paths: Iterable[Path]) -> list[bytes]:
    """The bytes of the packets, in the files' order."""
    return [packet.data for packet in packets(paths)]


def numbers(paths: Iterable[Path]) -> list[int]:
    """The numbers of the lab's frames, in the files' order."""
    return [frame_number(data) for data in contents(paths)]


def of_queue(result: Result, queue: int, interface: str = "rx0") -> list[Path]:
    """The files of one queue, oldest first."""
    name = re.compile(rf"{interface}-q{queue}-.*")
    return [path for path in result.files if name.fullmatch(path.name)]


def statistics(path: Path) -> dict[str, Any]:
    """The options of the one Interface Statistics Block at a file's end."""
    *before, last = read_blocks(path)
    assert last.type == INTERFACE_STATISTICS
    assert INTERFACE_STATISTICS not in {block.type for block in before}
    return last.options


def flushed(path: Path) -> list[bytes]:
    """The whole packets of a file that is still being written."""
    return [packet.data for packet in read_packets(path, tolerant=True)]


def run(*argv: str | Path) -> str:
    """A tool's standard output; it must succeed."""
    env = {**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [str(a) for a in argv],
        check=False,
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tshark_fields(path: Path, *names: str) -> list[list[str]]:
    """tshark's values of the named fields, a row a packet."""
    wanted = [word for name in names for word in ("-e", name)]
    rows = run("tshark", "-r", path, "-n", "-T", "fields", *wanted)
    return [row.split("\t") for row in rows.splitlines()]


def capinfos(path: Path) -> dict[str, str]:
    """capinfos' table as a dict, with exact numbers."""
    names, values = run("capinfos", "-T", "-M", "-S", path).splitlines()
    return dict(zip(names.split("\t"), values.split("\t"), strict=True))


def stand_still(recorder: Recorder) -> None:
    """SIGSTOP the recorder; returns when every thread of it has stopped."""
    recorder.send_signal(signal.SIGSTOP)
    tasks = Path(f"/proc/{recorder.process.pid}/task")
    recorder.wait_for(
        lambda: all(
            (task / "stat").read_text().rpartition(")")[2].split()[0] in "Tt"
            for task in tasks.iterdir()
        )
    )


def go_on(recorder: Recorder) -> None:
    """SIGCONT."""
    recorder.send_signal(signal.SIGCONT)


def parts(recorder: Recorder) -> list[Path]:
    """The files being written now."""
    return sorted(recorder.directory.glob("*.part"))


def complete(recorder: Recorder) -> list[Path]:
    """The files that have their final name."""
    return sorted(p for p in recorder.directory.iterdir() if p.suffix != ".part")


def wait_for_files(recorder: Recorder, count: int, find: Callable[..., Sequence[Path]] = complete):
    """The files that `find` sees, once they are at least so many."""
    recorder.wait_for(lambda: len(find(recorder)) >= count)
    return find(recorder)


def blasted_numbers(path: Path, size: int) -> list[int]:
    """The numbers in a file that holds nothing but blasted frames of `size` bytes.

    Fast, for millions of packets: all records are equally long, so one format takes
    them apart.  Framing and lengths are checked all the same.
    """
    data = path.read_bytes()
    lengths = struct.pack("<II", size, size)
    if data[:4] == b"\x0a\x0d\x0d\x0a":
        padding = -size % 4
        # Behind the packet: options, a hash, and the length once more.
        layout = f">4s4s12x8s42xQ{size - 50 + padding}x48x"
        records = data[_first_packet(data) : -INTERFACE_STATISTICS_BYTES]
        total = struct.calcsize(layout)
        rows = list(struct.iter_unpack(layout, records))
        heads = {(row[0], row[1], row[2]) for row in rows}
        assert heads <= {(struct.pack("<I", 6), struct.pack("<I", total), lengths)}
        return [row[3] for row in rows]
    rows = list(struct.iter_unpack(f">8x8s42xQ{size - 50}x", data[24:]))
    assert {row[0] for row in rows} <= {lengths}
    return [row[1] for row in rows]


def _first_packet(data: bytes) -> int:
    """The offset of what stands behind the section header and one interface."""
    offset = 0
    for _ in range(2):
        offset += struct.unpack_from("<I", data, offset + 4)[0]
    return offset
