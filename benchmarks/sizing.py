"""`python -m benchmarks.sizing`: what a link of a given speed asks of a recorder, as Markdown.

Packets a second, bytes to the disk, memory for a disk that stands still for a second, cores
for the recorder's threads.  docs/sizing.md has the result and says what it rests on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

# A frame on the wire beside what is recorded: checksum, preamble, gap (IEEE 802.3).
WIRE_OVERHEAD_BYTES = 24
# An Enhanced Packet Block as the recorder writes it, hash included, without the packet.
RECORD_BYTES = 76
FRAME_BYTES = 2048
LINKS_GBPS = (10, 25, 100)


@dataclass(frozen=True)
class Mix:
    """Frames without checksum: (bytes, share of packets); `cpu_ns` of recorder CPU a packet."""

    name: str
    sizes: tuple[tuple[int, float], ...]
    cpu_ns: float

    def mean(self, size_of: dict[int, float]) -> float:
        """The mean over packets of something that depends on a packet's size."""
        whole = sum(share for _, share in self.sizes)
        return sum(size_of[size] * share for size, share in self.sizes) / whole

    @property
    def wire_bytes(self) -> float:
        """A packet on the wire."""
        return self.mean({size: size + WIRE_OVERHEAD_BYTES for size, _ in self.sizes})

    @property
    def record_bytes(self) -> float:
        """A packet in a pcapng file."""
        return self.mean({size: -(-size // 4) * 4 + RECORD_BYTES for size, _ in self.sizes})


@dataclass(frozen=True)
class Need:
    """What one link with one mix asks for; sizes in bytes, times in seconds."""

    pps: float
    disk_bytes_s: float
    frames_bytes: float
    cores: float


def mixes(small_ns: float, large_ns: float) -> tuple[Mix, ...]:
    """The three mixes, with what was measured for the smallest and the largest frame.

    Between them the price grows with the bytes of the record.
    """
    ends = Mix("", ((60, 1),), small_ns), Mix("", ((1514, 1),), large_ns)
    slope = (large_ns - small_ns) / (ends[1].record_bytes - ends[0].record_bytes)
    imix = ((60, 7.0), (590, 4.0), (1514, 1.0))
    record = Mix("", imix, 0).record_bytes
    imix_ns = small_ns + slope * (record - ends[0].record_bytes)
    return (
        Mix("64 bytes", ((60, 1.0),), small_ns),
        Mix("IMIX 7:4:1", imix, imix_ns),
        Mix("1514 bytes", ((1514, 1.0),), large_ns),
    )


def need(gbps: float, mix: Mix) -> Need:
    """At full rate, nothing lost."""
    pps = gbps * 1e9 / 8 / mix.wire_bytes
    return Need(
        pps=pps,
        disk_bytes_s=pps * mix.record_bytes,
        frames_bytes=pps * FRAME_BYTES,
        cores=pps * mix.cpu_ns / 1e9,
    )


def table(all_mixes: Sequence[Mix]) -> Iterator[str]:
    """The lines of the Markdown table."""
    yield (
        "| link | packets | Mpps | to disk<br>GB/s | a second in frames<br>GB "
        "| recorder<br>cores | queues |"
    )
    yield "|---|---|---:|---:|---:|---:|---:|"
    for gbps in LINKS_GBPS:
        for mix in all_mixes:
            asked = need(gbps, mix)
            cells = [
                f"{gbps} Gb/s",
                mix.name,
                f"{asked.pps / 1e6:.2f}",
                f"{asked.disk_bytes_s / 1e9:.2f}",
                f"{asked.frames_bytes / 1e9:.1f}",
                f"{asked.cores:.2f}",
                # Half of a core's time is left for bursts.
                str(max(1, math.ceil(2 * asked.cores))),
            ]
            yield f"| {' | '.join(cells)} |"


@click.command()
@click.option("--small-ns", type=float, default=98.0, show_default=True,
              help="Recorder CPU a packet of 64 bytes, into memory.")  # fmt: skip
@click.option("--large-ns", type=float, default=216.0, show_default=True,
              help="The same of 1514 bytes, to a disk.")  # fmt: skip
def main(small_ns: float, large_ns: float) -> None:
    """Print what 10, 25 and 100 Gb/s ask for, from the recorder's CPU time a packet."""
    for line in table(mixes(small_ns, large_ns)):
        click.echo(line)


if __name__ == "__main__":
    main()
