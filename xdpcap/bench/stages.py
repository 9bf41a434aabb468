"""Divide a worker's time by stage, and name the stage that limits a recording.

A measured worker (`host.stage_times`) is always in exactly one stage, and reports its wall-clock
and CPU time. Every nanosecond belongs to one of:

    peek     the ring: look, release, refill, and the look around between two batches
    encode   encoding records and copying packets into blocks
    submit   handing blocks over: io_uring_enter() or pwrite(), and taking completions
    kernel   going to sleep and waking, driving the driver's polling, and what the CPU was
             taken away for meanwhile: interrupts (where the kernel keeps their time apart) and
             other threads
    disk     waiting until a block comes back, or asleep in the call that writes one
    idle     asleep, waiting for packets
    source   making packets, where they are simulated

The first four keep a CPU from doing more; `disk` and `idle` do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

# Who is asleep for more than a tenth of the time, waiting for packets, could take more.
IDLE_SHARE = 0.1

BUSY = ("peek", "encode", "submit", "kernel")


@dataclass(frozen=True)
class StageAccount:
    """Nanoseconds by stage, of one worker or of several together.

    The last three overlap with the stages: `taken` is the part of `kernel` in which the CPU was
    taken away, `user` and `system` are the thread's CPU time as the kernel divides it: by the
    tick, so right on average.
    """

    peek: float = 0.0
    encode: float = 0.0
    submit: float = 0.0
    kernel: float = 0.0
    disk: float = 0.0
    idle: float = 0.0
    source: float = 0.0
    taken: float = 0.0
    user: float = 0.0
    system: float = 0.0

    @classmethod
    def of(cls, readings: Mapping[str, int]) -> StageAccount:
        """The account that a `StageTimes` gives."""
        r = readings
        awake = r["peek"] + r["encode"] + r["reap"]
        # Whatever took the CPU away took it from all three alike.
        kept = min(r["awake_cpu"] / awake, 1.0) if awake else 0.0
        blocked = r["write_blocked"]
        taken = awake * (1 - kept) + max(r["write"] - r["write_cpu"] - blocked, 0)
        return cls(
            peek=kept * r["peek"],
            encode=kept * r["encode"],
            submit=kept * r["reap"] + min(r["write_cpu"], r["write"] - blocked),
            kernel=taken + r["disk_cpu"] + r["idle_cpu"],
            disk=r["disk"] - r["disk_cpu"] + blocked,
            idle=r["idle"] - r["idle_cpu"],
            source=r["source"],
            taken=taken,
            user=r["user"],
            system=r["system"],
        )

    @property
    def elapsed(self) -> float:
        """The whole time, by the clock."""
        return self.busy + self.disk + self.idle + self.source

    @property
    def busy(self) -> float:
        """The part in which the worker kept a CPU from other work, or waited for one."""
        return sum(getattr(self, name) for name in BUSY)

    def share(self, name: str) -> float:
        """A stage's part of the time, 0 to 1; making packets is not counted."""
        whole = self.elapsed - self.source
        return float(getattr(self, name)) / whole if whole > 0 else 0.0

    @property
    def limit(self) -> str:
        """What holds the worker back: a stage, "disk", or "sender" when it is idle enough."""
        if self.share("idle") >= IDLE_SHARE or self.elapsed <= self.source:
            return "sender"
        # Of equals the first; `max` keeps to the order.
        return max((*BUSY, "disk"), key=self.share)

    def per_packet(self, packets: int) -> dict[str, float]:
        """Nanoseconds a packet and stage, as the report has them."""
        return {
            f"{field.name}_ns": getattr(self, field.name) / packets if packets else 0.0
            for field in fields(self)
        }


def together(accounts: Iterable[StageAccount]) -> StageAccount:
    """The sum of several workers' accounts."""
    rows = list(accounts)
    return StageAccount(
        **{
            field.name: sum(getattr(row, field.name) for row in rows)
            for field in fields(StageAccount)
        }
    )


def busiest(accounts: Iterable[StageAccount]) -> StageAccount:
    """The account of the worker that is idle least: it is where packets are lost first."""
    return min(accounts, key=lambda account: account.share("idle"))
