"""The result of `xdpcap bench record`: the object that `--json` prints; a leaf.

`docs/bench-record.md` tells what each name means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xdpcap.bench.stages import StageAccount, busiest, together
from xdpcap.options.bench_record import BenchRecordOptions, format_sizes
from xdpcap.record.ledger import QueueAccount, reported_total, total
from xdpcap.replay.startup import WIRE_OVERHEAD_BYTES

# What takes the worker's time, and what helps.
STAGES = {
    "peek": "taking packets off the ring and giving frames back",
    "encode": "encoding records and copying packets; spread the load over more --queues",
    "submit": "handing blocks to the kernel, which copies them if the files are in memory",
    "kernel": "sleeping, waking, interrupts and other threads; give the workers CPUs of their "
    "own with --cpus",
}


def make_bench_report(
    options: BenchRecordOptions,
    rows: Sequence[QueueAccount],
    accounts: Sequence[tuple[int, StageAccount]],
    *,
    files: Sequence[Mapping[str, Any]],
    problems: Sequence[str],
) -> dict[str, Any]:
    """The report of a measurement: `rows` are the ledger's, `accounts` by queue."""
    summary = total(rows)
    every = [account for _, account in accounts]
    seconds = max(account.elapsed for account in every) / 1e9
    received = {row.queue: row.received for row in rows}
    worst = busiest(every)
    written = summary.bytes_to_disk
    return {
        "simulate": options.simulate,
        "interface": options.interface or None,
        "format": options.format,
        "sizes": format_sizes(options.mix) if options.simulates_packets else None,
        "attach_mode": summary.attach_mode,
        "zero_copy": summary.zero_copy,
        "seconds": seconds,
        "packets": summary.received,
        "bytes": summary.bytes_received,
        "pps": _rate(summary.received, seconds),
        "mbps": _megabits(summary.bytes_received + WIRE_OVERHEAD_BYTES * summary.received, seconds),
        "file_bytes": written,
        "file_mbps": _megabits(written, seconds),
        "lost": summary.lost,
        "ledger": reported_total(summary),
        "stages": _stages(together(every), summary.received),
        "queues": [
            {"queue": queue, "packets": received[queue], "limit": account.limit}
            | {"stages": _stages(account, received[queue])}
            for queue, account in accounts
        ],
        "limit": worst.limit,
        "why": _why(worst, summary),
        "files": [dict(file) for file in files] if options.keep else [],
        "problems": list(problems),
    }


def _rate(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _megabits(size_bytes: float, seconds: float) -> float:
    return _rate(8 * size_bytes, seconds) / 1e6


def _stages(account: StageAccount, packets: int) -> dict[str, float]:
    return account.per_packet(packets) | {
        "busy_share": account.share("busy"),
        "disk_share": account.share("disk"),
        "wait_share": account.share("idle"),
    }


def _why(worst: StageAccount, summary: QueueAccount) -> str:
    """The limit in a sentence, of the worker that is idle least."""
    limit = worst.limit
    if not summary.received:
        return "no packet came: the worker was idle all the time"
    if limit == "sender":
        text = f"the sender limits: the worker was idle {worst.share('idle'):.0%} of the time"
        if summary.lost:
            text += (
                f", and yet {summary.lost} packets were lost: more came than the ring holds before "
                "it woke; raise --umem-size, or give it a CPU of its own with --cpus"
            )
        return text
    if limit == "disk":
        return f"the disk limits: the worker waited for it {worst.share('disk'):.0%} of the time"
    share = f"{worst.share(limit):.0%} of the worker's time"
    return f"{limit} limits: {share} went into {STAGES[limit]}"
