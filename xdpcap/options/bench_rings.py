"""What a measurement of the rings is asked to do: plain data, checked once, a leaf."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from xdpcap.errors import UsageError
from xdpcap.options import checks
from xdpcap.options.frame_sizes import chosen_frame
from xdpcap.options.record import RecordOptions
from xdpcap.options.replay import ReplayOptions
from xdpcap.options.units import KIB

MODES = ("rx-drop", "tx-only", "l2fwd")
WAITS = ("pause", "poll")
ETHERNET_HEADER = 14
# From a locally administered address to another, of an EtherType for experiments on one's
# own network (IEEE 802, clause 9.2.3), which no stack takes for anything.
_HEADER = bytes.fromhex("020000000001 020000000002 88b5")


def idle_frame(size: int) -> bytes:
    """A frame of `size` bytes that nobody answers."""
    return _HEADER + bytes(size - len(_HEADER))


@dataclass(frozen=True)
class RingBenchOptions:
    """Everything `xdpcap bench rx-drop|tx-only|l2fwd` can be told.

    `ring_size`: descriptors of each ring; the UMEM has as many frames.  `packet_size`:
    bytes of the frame that tx-only sends, without FCS.  None of `queues` is all of them.
    """

    interface: str
    mode: str
    queues: tuple[int, ...] | None = None
    frame_size: int | None = None
    ring_size: int = 2048
    batch: int = 64
    attach: str = "auto"
    zero_copy: str = "auto"
    wait: str = "pause"
    busy_poll: bool = False
    need_wakeup: bool = True
    cpus: tuple[int, ...] | None = None
    packet_size: int = 60
    duration_s: float = 10.0
    interval_s: float = checks.DEFAULT_STATS_INTERVAL_S
    netns: str | None = None
    force: bool = False
    quiet: bool = False
    json: bool = False

    @property
    def receives(self) -> bool:
        """Whether packets are taken from the interface."""
        return self.mode != "tx-only"

    @property
    def sends(self) -> bool:
        """Whether packets leave by the interface."""
        return self.mode != "rx-drop"

    @property
    def umem_size_bytes(self) -> int:
        """A frame for each descriptor, and no less than the kernel's pages."""
        return max(self.ring_size * chosen_frame(self.frame_size), 16 * KIB)

    @property
    def record_options(self) -> RecordOptions:
        """The same rings, as a recording would ask for them."""
        return RecordOptions(
            (self.interface,),
            output="",
            attach=self.attach,
            zero_copy=self.zero_copy,
            busy_poll=self.busy_poll,
            umem_size_bytes=self.umem_size_bytes,
            frame_size=self.frame_size,
            ring_size=self.ring_size,
            batch=self.batch,
        )

    @property
    def replay_options(self) -> ReplayOptions:
        """The same rings, as a replay would ask for them."""
        return ReplayOptions(
            files=(),
            interface=self.interface,
            attach=self.attach,
            zero_copy=self.zero_copy,
            umem_size_bytes=self.umem_size_bytes,
            frame_size=chosen_frame(self.frame_size),
            ring_size=self.ring_size,
            batch=self.batch,
        )

    def validate(self) -> None:
        """Raise `UsageError` for the first value or combination that can't work."""
        for problem in chain.from_iterable(step(self) for step in (_place, _rings, _load)):
            raise UsageError(problem)


def _place(c: RingBenchOptions) -> Iterator[str]:
    if not c.interface:
        yield f"no interface; name one with -i, {checks.INTERFACE_LISTING}"
    yield from checks.interface_name("-i", c.interface)
    yield from checks.queue_list(c.queues, "all of them")
    yield from checks.cpu_list(c.cpus)
    yield from checks.namespace(c.netns)
    choices = ("auto", "native", "generic") if c.receives else ("auto", "native", "generic", "none")
    yield from checks.modes(c.attach, choices, c.zero_copy)


def _rings(c: RingBenchOptions) -> Iterator[str]:
    frame_size = chosen_frame(c.frame_size)
    yield from checks.frame(frame_size)
    yield from checks.memory(frame_size, c.ring_size, c.umem_size_bytes)
    yield from checks.ranges(("--batch", c.batch, 1, c.ring_size, "the ring has no more"))
    yield from checks.one_of("--wait", c.wait, WAITS)
    if c.busy_poll and not c.receives:
        yield "--busy-poll with tx-only: nothing is received; leave it out"


def _load(c: RingBenchOptions) -> Iterator[str]:
    most = chosen_frame(c.frame_size)
    yield from checks.ranges(
        ("--packet-size", c.packet_size, ETHERNET_HEADER, most, "use 60 to 1514")
    )
    yield from checks.time("--duration", c.duration_s, checks.MIN_STATS_INTERVAL_S)
    yield from checks.reports(c.quiet, c.interval_s)
