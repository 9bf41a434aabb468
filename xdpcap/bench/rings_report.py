"""What a measurement of the rings found, as plain data; a leaf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xdpcap.replay.startup import wire_bits

# What the kernel did not take or give, by its own names (XDP_STATISTICS).
DROPS = ("rx_dropped", "rx_ring_full", "rx_invalid_descs", "tx_invalid_descs")


@dataclass(frozen=True)
class RingSample:
    """One queue at one moment: the loop's counters, the kernel's, and CPU seconds."""

    queue: int
    counters: Mapping[str, int]
    statistics: Mapping[str, int]
    cpu_s: float


@dataclass(frozen=True)
class Moment:
    """All queues at one moment; `at_s` on the monotonic clock."""

    at_s: float
    machine_busy_s: float
    rows: Sequence[RingSample] = field(default_factory=tuple)


@dataclass(frozen=True)
class RingRate:
    """What happened to one queue, or to all, between two moments.

    `ring_mean`, `ring_most`: descriptors that waited in the ring when it was looked at, as
    shares of it.  `drops` are packets; what was dropped because the fill ring was empty is
    counted there by drivers that do (docs/ledger.md).
    """

    seconds: float
    packets: int
    bytes: int
    cpu_s: float
    syscalls: int
    descriptors: int
    looks: int
    empty_looks: int
    ring_mean: float
    ring_most: float
    drops: Mapping[str, int]

    @property
    def pps(self) -> float:
        """Packets a second."""
        return self.packets / self.seconds if self.seconds else 0.0

    @property
    def wire_bps(self) -> float:
        """Bits a second on the wire, with checksum, preamble and gap."""
        return wire_bits(self.packets, self.bytes) / self.seconds if self.seconds else 0.0

    @property
    def cpu_share(self) -> float:
        """CPUs that the loops kept busy; 1 is one whole CPU."""
        return self.cpu_s / self.seconds if self.seconds else 0.0

    @property
    def descriptors_per_syscall(self) -> float | None:
        """None when there was no system call."""
        return self.descriptors / self.syscalls if self.syscalls else None

    def as_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        return {
            "packets": self.packets,
            "bytes": self.bytes,
            "pps": self.pps,
            "mbps": self.wire_bps / 1e6,
            "cpu": self.cpu_share,
            "cpu_ns_per_packet": self.cpu_s * 1e9 / self.packets if self.packets else None,
            "syscalls": self.syscalls,
            "descriptors_per_syscall": self.descriptors_per_syscall,
            "ring_mean": self.ring_mean,
            "ring_most": self.ring_most,
            **self.drops,
        }


def between(before: Moment, after: Moment, ring_size: int) -> list[tuple[int, RingRate]]:
    """(queue, rate) for each queue."""
    seconds = after.at_s - before.at_s
    return [
        (late.queue, _rate(early, late, seconds, ring_size))
        for early, late in zip(before.rows, after.rows, strict=True)
    ]


def total(rates: Sequence[RingRate]) -> RingRate:
    """All queues together; the ring's shares are means, weighted by looks, and the most."""
    looks = sum(rate.looks for rate in rates)
    weighted = sum(rate.ring_mean * rate.looks for rate in rates)
    return RingRate(
        seconds=max((rate.seconds for rate in rates), default=0.0),
        packets=sum(rate.packets for rate in rates),
        bytes=sum(rate.bytes for rate in rates),
        cpu_s=sum(rate.cpu_s for rate in rates),
        syscalls=sum(rate.syscalls for rate in rates),
        descriptors=sum(rate.descriptors for rate in rates),
        looks=looks,
        empty_looks=sum(rate.empty_looks for rate in rates),
        ring_mean=weighted / looks if looks else 0.0,
        ring_most=max((rate.ring_most for rate in rates), default=0.0),
        drops={name: sum(rate.drops[name] for rate in rates) for name in DROPS},
    )


def _rate(early: RingSample, late: RingSample, seconds: float, ring_size: int) -> RingRate:
    grown = {name: late.counters[name] - early.counters[name] for name in late.counters}
    looks = grown["looks"]
    return RingRate(
        seconds=seconds,
        packets=grown["packets"],
        bytes=grown["bytes"],
        cpu_s=late.cpu_s - early.cpu_s,
        syscalls=grown["syscalls"],
        descriptors=grown["descriptors"],
        looks=looks,
        empty_looks=grown["empty_looks"],
        ring_mean=grown["occupancy_sum"] / looks / ring_size if looks else 0.0,
        ring_most=late.counters["occupancy_most"] / ring_size,
        drops={name: late.statistics[name] - early.statistics[name] for name in DROPS},
    )
