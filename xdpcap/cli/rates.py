"""Rates from the cumulative counters of the ledger: what happened since the last look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xdpcap.record.ledger import QueueAccount


@dataclass(frozen=True)
class Rate:
    """Of one queue or of several together, over the time since the previous measurement."""

    packets_per_s: float = 0.0
    bits_per_s: float = 0.0

    def __add__(self, other: Rate) -> Rate:
        return Rate(
            self.packets_per_s + other.packets_per_s,
            self.bits_per_s + other.bits_per_s,
        )


Key = tuple[str, int]


def key_of(account: QueueAccount) -> Key:
    """What tells one queue from all others."""
    return account.interface, account.queue


class RateMeter:
    """Remembers the counters of the last measurement; the first counts from the start."""

    def __init__(self) -> None:
        self._elapsed_s = 0.0
        self._seen: dict[Key, tuple[int, int]] = {}

    def measure(self, accounts: Iterable[QueueAccount], elapsed_s: float) -> dict[Key, Rate]:
        """The rate of each queue since the last call; `elapsed_s` counts from the start."""
        interval_s = elapsed_s - self._elapsed_s
        rates = {}
        for account in accounts:
            key = key_of(account)
            packets, size = self._seen.get(key, (0, 0))
            self._seen[key] = (account.received, account.bytes_received)
            if interval_s > 0:
                rates[key] = Rate(
                    (account.received - packets) / interval_s,
                    8 * (account.bytes_received - size) / interval_s,
                )
            else:
                rates[key] = Rate()
        self._elapsed_s = elapsed_s
        return rates
