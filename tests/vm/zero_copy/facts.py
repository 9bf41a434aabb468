"""What each kernel's drivers are known to grant; the suite holds them to it."""

from __future__ import annotations

from dataclasses import dataclass

# From which kernel on the driver takes zero-copy sockets, of those that guests run.
ZERO_COPY_SINCE = {"virtio": (7, 2), "virtio-mq": (7, 2), "igb": (7, 2)}


@dataclass(frozen=True)
class Expected:
    """Every driver here takes the program itself, on every kernel."""

    zero_copy: bool
    multi_buffer: bool
    clock: str
    rss_key: bool


def expected_of(kernel: str, nics: str) -> Expected:
    """What a guest of this kernel with these NICs has to show."""
    version = tuple(map(int, kernel.split(".")))
    since = ZERO_COPY_SINCE.get(nics)
    return Expected(
        zero_copy=since is not None and version >= since,
        multi_buffer=version >= (6, 6),
        # virtio_net has RSS from 5.18 on; igb keeps its key to itself.
        rss_key=nics == "virtio-mq" and version >= (5, 18),
        clock="CLOCK_TAI" if version >= (6, 1) else "CLOCK_MONOTONIC",
    )
