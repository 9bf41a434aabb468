"""`python -m benchmarks.sizing`: a recorder's requirements at a given link speed, as Markdown.

Packets per second, bytes per second to the disk, memory for a disk that stalls for a second,
cores for the recorder's threads.  docs/sizing.md has the result and its assumptions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

# The bytes of a frame on the wire that are not recorded: FCS, preamble, gap (IEEE 802.3).
WIRE_OVERHEAD_BYTES = 24
# An Enhanced Packet Block as the recorder writes it, hash included, without the packet.
RECORD_BYTES = 76
FRAME_BYTES = 2048
LINKS_GBPS = (10, 25, 100)


@dataclass(frozen=True)
class Mix:
    """Frames without FCS: (bytes, share of packets); `cpu_ns`: recorder CPU per packet."""

    name: str
    sizes: tuple[tuple[int, float], ...]
    cpu_ns: float

    def mean(self, size_of: dict[int, float]) -> float:
        """The mean over all packets of a function of a packet's size."""
        whole = sum(share for _, share in self.sizes)
        return sum(size_of[size] * share for size, share in self.sizes) / whole

    @property
    def wire_bytes(self) -> float:
        """The bytes of a packet on the wire."""
        return self.mean({size: size + WIRE_OVERHEAD_BYTES for size, _ in self.sizes})

    @property
    def record_bytes(self) -> float:
        """The bytes of a packet in a pcapng file."""
        return self.mean({size: -(-size // 4) * 4 + RECORD_BYTES for size, _ in self.sizes})


@dataclass(frozen=True)
class Need:
    """The requirements of one link with one mix; sizes in bytes, times in seconds."""

    pps: float
    disk_bytes_s: float
    frames_bytes: float
    cores: float


def mixes(small_ns: float, large_ns: float) -> tuple[Mix, ...]:
    """The three mixes, with the measured CPU time of the smallest and the largest frame.

    In between the CPU time grows linearly with the bytes of the record.
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
    """The requirements at full rate without loss."""
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
                # Half of a core's time is reserved for bursts.
                str(max(1, math.ceil(2 * asked.cores))),
            ]
            yield f"| {' | '.join(cells)} |"


@click.command()
@click.option("--small-ns", type=float, default=98.0, show_default=True,
              help="Recorder CPU time per packet of 64 bytes, to memory, in ns.")  # fmt: skip
@click.option("--large-ns", type=float, default=216.0, show_default=True,
              help="The same for 1514 bytes, to a disk.")  # fmt: skip
def main(small_ns: float, large_ns: float) -> None:
    """Print the requirements of 10, 25 and 100 Gb/s, from the recorder's CPU time per packet."""
    for line in table(mixes(small_ns, large_ns)):
        click.echo(line)


if __name__ == "__main__":
    main()
