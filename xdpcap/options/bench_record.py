"""What a measurement of the recorder is asked to do: plain data, checked once, a leaf."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from xdpcap.errors import UsageError
from xdpcap.options import checks
from xdpcap.options.frame_sizes import chosen_frame, copy_room
from xdpcap.options.record import FORMATS, STDOUT, RecordOptions
from xdpcap.options.units import MIB, UnitError, parse_count, parse_size

SIMULATIONS = ("none", "disk", "capture")

# Bytes of a packet, and how many of it there are in each round of the mix.
Sizes = tuple[tuple[int, int], ...]

# The usual mix of the internet's packets, 12 a round.
IMIX: Sizes = ((64, 7), (594, 4), (1514, 1))
# Ethernet, IPv4, UDP and the packet's number; what the longest of a real device has.
SIZE_RANGE = range(50, 16384 + 1)
# Less is some rings' worth of packets.
MIN_DURATION_S = 0.01
# A round is laid out packet by packet.
MAX_ROUND = 10_000


def parse_sizes(text: str) -> Sizes:
    """A mix from ``64:7,594:4,1514:1`` (bytes and weight), or one size: ``1514``."""
    mix = []
    for part in text.split(","):
        size, colon, weight = part.partition(":")
        try:
            mix.append((parse_size(size), parse_count(weight) if colon else 1))
        except UnitError as error:
            raise UnitError(f"{text!r}: {error}; write sizes as 1514 or 64:7,594:4") from None
    return tuple(mix)


def format_sizes(sizes: Sizes) -> str:
    """The spelling that `parse_sizes` reads back."""
    return ",".join(f"{size}:{weight}" for size, weight in sizes)


@dataclass(frozen=True)
class BenchRecordOptions:
    """Everything `xdpcap bench record` can be told; `docs/bench-record.md` explains it.

    `simulate`: "none", "disk" (nothing is written) or "capture" (packets are made in
    memory).  `sizes` of None is `IMIX`.  Sizes are in bytes and per queue, times in seconds.
    """

    interface: str = ""
    simulate: str = "none"
    output: str = ""
    sizes: Sizes | None = None
    format: str = "pcapng"
    keep: bool = False
    queues: tuple[int, ...] | None = None
    cpus: tuple[int, ...] | None = None
    frame_size: int | None = None
    umem_size_bytes: int = 64 * MIB
    duration_s: float = 5.0
    netns: str | None = None
    force: bool = False
    json: bool = False

    @property
    def writes(self) -> bool:
        """Whether there are files."""
        return self.simulate != "disk"

    @property
    def simulates_packets(self) -> bool:
        """Whether packets are made, and taken from no interface."""
        return self.simulate == "capture"

    @property
    def source(self) -> str:
        """What the packets are from, as files are named after it."""
        return self.interface or "simulated"

    @property
    def mix(self) -> Sizes:
        """The mix of sizes, of simulated packets."""
        return self.sizes or IMIX

    def record_options(self, directory: str) -> RecordOptions:
        """The recording that is measured."""
        return RecordOptions(
            (self.source,),
            output=directory,
            format=self.format,
            queues=self.queues,
            cpus=self.cpus,
            frame_size=self.frame_size,
            umem_size_bytes=self.umem_size_bytes,
        )

    def validate(self) -> None:
        """Raise `UsageError` for the first value or combination that can't work."""
        steps = (_what, _contradictions, _files, _rings)
        for problem in chain.from_iterable(step(self) for step in steps):
            raise UsageError(problem)


def _what(c: BenchRecordOptions) -> Iterator[str]:
    yield from checks.one_of("--simulate", c.simulate, SIMULATIONS)
    if not c.interface and not c.simulates_packets:
        yield (
            f"no interface; name one with -i, {checks.INTERFACE_LISTING}, "
            "or leave it out with --simulate capture"
        )
    if c.interface:
        yield from checks.interface_name("-i", c.interface)
    yield from checks.namespace(c.netns)
    yield from checks.time("--duration", c.duration_s, MIN_DURATION_S)


def _contradictions(c: BenchRecordOptions) -> Iterator[str]:
    """Options that mean nothing in this simulation."""
    if not c.writes:
        if c.output:
            yield "-o with --simulate disk: nothing is written; leave it out"
        if c.keep:
            yield "--keep with --simulate disk: there are no files; leave it out"
    if c.simulates_packets:
        for option, given in (("--netns", c.netns is not None), ("--force", c.force)):
            if given:
                yield f"{option} with --simulate capture: no interface is touched; leave it out"
    elif c.sizes is not None:
        yield (
            "--sizes: the packets are those that arrive; leave it out, or add --simulate capture"
        )


def _files(c: BenchRecordOptions) -> Iterator[str]:
    yield from checks.one_of("--format", c.format, FORMATS)
    if c.writes and not c.output:
        yield "no output; name a directory with -o, or leave the writing out with --simulate disk"
    if c.output == STDOUT:
        yield "-o -: standard output is the report's; name a directory"
    for size, weight in c.sizes or ():
        if size not in SIZE_RANGE:
            yield (
                f"--sizes {size}: must be from {SIZE_RANGE.start} to {SIZE_RANGE.stop - 1} bytes; "
                f"the default is {format_sizes(IMIX)}"
            )
        if weight < 1:
            yield f"--sizes {size}:{weight}: there must be 1 at least; leave this size out"
    if sum(weight for _, weight in c.mix) > MAX_ROUND:
        yield f"--sizes: more than {MAX_ROUND} packets a round; give smaller weights"


def _rings(c: BenchRecordOptions) -> Iterator[str]:
    yield from checks.queue_list(c.queues, "one" if c.simulates_packets else "all")
    yield from checks.cpu_list(c.cpus)
    frame_size = chosen_frame(c.frame_size)
    yield from checks.frame(frame_size)
    ring_size = c.record_options("").ring_size_for(frame_size)
    yield from checks.memory(frame_size, ring_size, c.umem_size_bytes)
    longest = max(size for size, _ in c.mix)
    # A sixteenth of the ring is filled at a time, and must have room for every packet.
    if c.simulates_packets and ring_size // 16 * copy_room(frame_size) < longest:
        yield (
            f"--umem-size {c.umem_size_bytes}: {ring_size} frames are too few for packets of "
            f"{longest} bytes; use 1MiB or more"
        )
