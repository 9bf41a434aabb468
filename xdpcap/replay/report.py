"""What a replay did, as plain data: progress while it runs, the report at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xdpcap.replay.startup import wire_bits

if TYPE_CHECKING:
    from xdpcap.options.replay import ReplayOptions
    from xdpcap.replay.attachment import TxAttachment
    from xdpcap.replay.batches import BatchSource
    from xdpcap.replay.sender import Sender

# What --verify can find, as the report names it.
DIFFERENCES = ("missing", "extra", "changed", "reordered")


@dataclass(frozen=True)
class Progress:
    """The replay now: packets completed, bytes handed over, packets handed over late."""

    sent: int
    bytes: int
    elapsed_s: float
    late: int
    queues: int


def quantile(buckets: Sequence[tuple[int, int]], share: float) -> int:
    """The value below which `share` of the packets lie, from (least value, packets) pairs."""
    total = sum(count for _, count in buckets)
    rank, seen = share * total, 0
    for value, count in buckets:
        seen += count
        if seen >= rank:
            return value
    return buckets[-1][0] if buckets else 0


def spread(buckets: Sequence[tuple[int, int]], least: int, most: int) -> dict[str, int]:
    """How times in ns are distributed; `least` and `most` are exact, buckets need not be."""
    return {
        "min_ns": least,
        "p50_ns": quantile(buckets, 0.5),
        "p99_ns": quantile(buckets, 0.99),
        "p99_9_ns": quantile(buckets, 0.999),
        "max_ns": most,
    }


def differs(verify: Mapping[str, Any]) -> bool:
    """Whether anything arrived otherwise than it was sent; the gaps do not count."""
    return any(verify.get(name, 0) for name in DIFFERENCES)


def merge(histograms: Iterable[Sequence[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Several queues' histograms as one."""
    sums: dict[int, int] = {}
    for histogram in histograms:
        for value, count in histogram:
            sums[value] = sums.get(value, 0) + count
    return sorted(sums.items())


def timing(senders: Sequence[Sender]) -> dict[str, int] | None:
    """How late packets were handed over, ns; None when nothing was paced.

    Quantiles are the lower bounds of buckets 3% wide; least and most are exact.
    """
    bounds = [b for s in senders if (b := s.transmitter.lateness_bounds_ns) is not None]
    if not bounds:
        return None
    histogram = merge(sender.transmitter.lateness for sender in senders)
    least, most = min(bound[0] for bound in bounds), max(bound[1] for bound in bounds)
    return {
        **spread(histogram, least, most),
        "late": sum(sender.transmitter.counters[3] for sender in senders),
    }


def _row(sender: Sender) -> dict[str, Any]:
    _, size, completed, late, kicks = sender.transmitter.counters
    return {
        "interface": sender.interface,
        "queue": sender.queue,
        "sent": completed,
        "bytes": size,
        "zero_copy": sender.zero_copy,
        "late": late,
        "kicks": kicks,
        "loops": sender.passes,
    }


def build_report(
    options: ReplayOptions,
    senders: Sequence[Sequence[Sender]],
    attachments: Sequence[TxAttachment],
    source: BatchSource,
    seconds: float,
) -> dict[str, Any]:
    """The final report; see docs/replay.md for its fields."""
    every = [sender for row in senders for sender in row]
    rows = [_row(sender) for sender in every]
    sent, size = sum(row["sent"] for row in rows), sum(row["bytes"] for row in rows)
    errors = {"tx_invalid_descs": 0, "tx_ring_empty": 0, "tx_dropped": 0}
    for attachment in attachments:
        for name, count in attachment.tx_errors().items():
            errors[name] += count
    return {
        "sent": sent,
        "bytes": size,
        "seconds": seconds,
        "pps": sent / seconds if seconds else 0.0,
        "mbps": wire_bits(sent, size) / seconds / 1e6 if seconds else 0.0,
        "skipped": dict(source.reading.skipped),
        "skipped_numbers": dict(source.reading.skipped_numbers),
        "truncated": source.reading.truncated,
        "tx_errors": errors,
        "zero_copy": all(attachment.zero_copy for attachment in attachments),
        "queues": rows,
        "timing": timing(every),
        "files": list(options.files),
        "loops": max((row["loops"] for row in rows), default=0),
        "interfaces": [attachment.link.name for attachment in attachments],
        "verify": None,
        "damage": list(source.reading.damage),
    }
