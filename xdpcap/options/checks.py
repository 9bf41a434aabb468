"""Checks that several commands share.

Each check yields the problems it finds as one line, the plainest first: the
option, the cause, and after a semicolon the way out. Nothing is looked up but
the CPUs that this process may run on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from mmap import PAGESIZE

from xdpcap.options.units import format_duration, format_number_list, format_size

ATTACH_MODES = ("auto", "native", "generic", "offload")
ZERO_COPY_MODES = ("auto", "require", "off")

# XDP_UMEM_MIN_CHUNK_SIZE in the kernel's net/xdp/xdp_umem.c; the largest chunk is a page.
MIN_FRAME_SIZE = 2048
# A ring's entries are counted in 32 bits, and their number is a power of two.
MAX_FRAMES = 1 << 31
MIN_STATS_INTERVAL_S = 0.1
DEFAULT_STATS_INTERVAL_S = 1.0

INTERFACE_LISTING = "`xdpcap interfaces` lists them"

# An option, its value, the least and the most it can be, and the way out.
Range = tuple[str, float | None, float, float, str]


def interface_name(option: str, name: str) -> Iterator[str]:
    """A name that the kernel would give to no interface."""
    if not name or "/" in name or any(letter.isspace() for letter in name):
        yield f"{option} {name!r}: no interface can have this name; {INTERFACE_LISTING}"


def namespace(netns: str | None) -> Iterator[str]:
    """--netns without a name."""
    if netns is not None and not netns:
        yield "--netns: no name; `ip netns list` shows the names, a path with a slash does too"


def queue_list(queues: Sequence[int] | None, without: str) -> Iterator[str]:
    """--queues; `without` says what leaving it out means."""
    if queues is None:
        return
    if not queues:
        yield f"--queues: an empty list; name queues such as 0,2-3, or leave it out for {without}"
    for queue in queues:
        if queue < 0:
            yield f"--queues {queue}: queues count from 0; choose 0 or more"
        if queues.count(queue) > 1:
            yield f"--queues: queue {queue} is listed twice; list each queue once"


def cpu_list(cpus: Sequence[int] | None) -> Iterator[str]:
    """--cpus: only those that this process may run on."""
    if cpus is None:
        return
    if not cpus:
        yield "--cpus: an empty list; name CPUs such as 0,2-3, or leave it out"
    allowed = sorted(os.sched_getaffinity(0))
    for cpu in cpus:
        if cpu not in allowed:
            yield (
                f"--cpus {cpu}: this process may run on {format_number_list(allowed)} only; "
                "choose among these, or widen its affinity (taskset, cpuset)"
            )


def modes(attach: str, choices: tuple[str, ...], zero_copy: str) -> Iterator[str]:
    """--attach, of which a command has `choices`, and --zero-copy; each and together."""
    yield from one_of("--attach", attach, choices)
    yield from one_of("--zero-copy", zero_copy, ZERO_COPY_MODES)
    if attach == "generic" and zero_copy == "require":
        yield (
            "--zero-copy require with --attach generic: zero-copy needs the driver's own XDP; "
            "use --attach native, or --zero-copy off"
        )


def ranges(*rows: Range) -> Iterator[str]:
    """Numbers that are too small or too large; None passes."""
    for option, value, least, most, way_out in rows:
        if value is not None and not value >= least:
            yield f"{option} {value}: must be at least {least}; {way_out}"
        if value is not None and value > most:
            yield f"{option} {value}: must be at most {most}; {way_out}"


def frame(frame_size: int) -> Iterator[str]:
    """--frame-size: what the kernel takes."""
    if not (is_power_of_two(frame_size) and MIN_FRAME_SIZE <= frame_size <= PAGESIZE):
        yield (
            f"--frame-size {frame_size}: must be a power of two from {MIN_FRAME_SIZE} "
            f"to the page size {PAGESIZE}; longer packets span several frames, use 2048"
        )


def memory(frame_size: int, ring_size: int, umem_size_bytes: int) -> Iterator[str]:
    """--ring-size and --umem-size for a good `frame_size`: what the kernel takes, and fits."""
    if not is_power_of_two(ring_size):
        near = 1 << max(ring_size - 1, 0).bit_length()
        yield f"--ring-size {ring_size}: must be a power of two; use {near}"
    size = umem_size_bytes
    if size <= 0 or size % PAGESIZE:
        near = max(math.ceil(size / PAGESIZE), 1) * PAGESIZE
        yield (
            f"--umem-size {size}: must be a multiple of the page size {PAGESIZE}; "
            f"use {format_size(near)}"
        )
    if size // frame_size > MAX_FRAMES:
        yield (
            f"--umem-size {format_size(size)}: more than the {MAX_FRAMES} frames that a ring can "
            f"name; use {format_size(MAX_FRAMES * frame_size)} or less"
        )
    if size // frame_size < ring_size:
        yield (
            f"--umem-size {format_size(size)}: {size // frame_size} frames of {frame_size} "
            f"bytes are fewer than the ring's {ring_size} descriptors; "
            f"use --umem-size {format_size(ring_size * frame_size)} or a smaller --ring-size"
        )


def one_of(option: str, value: str, choices: tuple[str, ...]) -> Iterator[str]:
    """A mode that is not among `choices`."""
    if value not in choices:
        yield f"{option} {value!r}: unknown; choose one of {', '.join(choices)}"


def time(option: str, seconds: float | None, least_s: float = 0) -> Iterator[str]:
    """A time that can't be waited, or is shorter than `least_s`; None passes."""
    if seconds is None:
        return
    if not (math.isfinite(seconds) and seconds > 0):
        yield f"{option} {seconds:g}: must be more than 0 seconds; use a time such as 1s or 1h30m"
    elif seconds < least_s:
        least = format_duration(least_s)
        yield f"{option} {format_duration(seconds)}: must be at least {least}; use {least} or more"


def reports(quiet: bool, stats_interval_s: float) -> Iterator[str]:
    """--quiet and --stats-interval, each and together."""
    yield from time("--stats-interval", stats_interval_s, MIN_STATS_INTERVAL_S)
    if quiet and stats_interval_s != DEFAULT_STATS_INTERVAL_S:
        yield "--quiet with --stats-interval: --quiet shows no statistics; drop one of them"


def is_power_of_two(number: int) -> bool:
    """1, 2, 4, ...; neither 0 nor negative ones."""
    return number > 0 and number & (number - 1) == 0
