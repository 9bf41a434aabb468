"""The proof that a replay went out right: record the far end, compare.

The far end is recorded by `xdpcap record` in a process of its own, so in a namespace of
its own where it lies in one.  What the senders handed over is remembered as a digest a
packet; what arrived is read back from the files.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, pairwise
from pathlib import Path
from typing import Any

from xdpcap.errors import XdpcapError
from xdpcap.record.process import RecordingProcess
from xdpcap.replay.report import spread
from xdpcap.replay.sender import Job
from xdpcap.savefile.reader import read_packets

# After the last packet was completed it may still be on its way through the far end.
SETTLE_S = 0.3
DIGEST_BYTES = 8

Digest = bytes


@dataclass(frozen=True)
class Sent:
    """One packet as handed over: digest, length, when due (ns, None at top speed)."""

    digest: Digest
    length: int
    due_ns: int | None


@dataclass(frozen=True)
class Arrived:
    """One packet as recorded."""

    digest: Digest
    length: int
    ts_ns: int


def digest(packet: bytes) -> Digest:
    """What stands for a packet in the comparison."""
    return hashlib.blake2b(packet, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True)
class _LoggedJob:
    row: list[Sent]
    passes: int
    pass_ns: int


class SentLog:
    """What each sender was told to send, in order."""

    def __init__(self) -> None:
        self._jobs: defaultdict[int, list[_LoggedJob]] = defaultdict(list)

    def add(self, sender: int, job: Job) -> None:
        """A job that was given to a sender."""
        row = []
        for position in range(len(job.order)):
            index = job.order[position]
            data = job.packets[index][1]
            due = None if job.plan is None else job.plan[index]
            row.append(Sent(digest(data), len(data), due))
        self._jobs[sender].append(_LoggedJob(row, job.passes, job.pass_ns))

    def sent(self, counts: Sequence[int]) -> list[list[Sent]]:
        """The first `counts[sender]` packets of each: what was really handed over."""
        return [list(islice(self._all(sender), n)) for sender, n in enumerate(counts)]

    def _all(self, sender: int) -> Iterator[Sent]:
        for job in self._jobs[sender]:
            if not job.row:
                continue
            for number in count() if job.passes == 0 else range(job.passes):
                begun_ns = number * job.pass_ns
                for packet in job.row:
                    due = None if packet.due_ns is None else packet.due_ns + begun_ns
                    yield Sent(packet.digest, packet.length, due)


class Recorder:
    """`xdpcap record` on the far end: `interface` in `namespace`, None for this one."""

    def __init__(self, namespace: str | None, interface: str) -> None:
        self._far_end = interface if namespace is None else f"{namespace}:{interface}"
        self._directory = tempfile.TemporaryDirectory(prefix="xdpcap-verify-")
        options = ["-i", interface, "--force", "-o", self._directory.name, "--stats-interval", "1h"]
        if namespace is not None:
            options += ["--netns", namespace]
        self._process = RecordingProcess(options)

    def wait_ready(self) -> None:
        """Return once it records; XdpcapError with its own words when it does not."""
        with self._named():
            self._process.wait_ready()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except XdpcapError as exc:
            raise XdpcapError(f"--verify {self._far_end}: {exc}") from None

    def stop(self) -> tuple[dict[str, Any], list[Arrived]]:
        """End the recording; its report, and what arrived in the order of time."""
        time.sleep(SETTLE_S)
        with self._named():
            report = self._process.stop()
        arrived = [
            Arrived(digest(packet.data), len(packet.data), packet.ts_ns or 0)
            for path in sorted(Path(self._directory.name).iterdir())
            for packet in read_packets(path)
        ]
        arrived.sort(key=lambda packet: packet.ts_ns)
        return report, arrived

    def close(self) -> None:
        """End it whatever happened, and delete what it recorded."""
        self._process.close()
        self._directory.cleanup()


# ---------------------------------------------------------------------------- comparison


def compare(sent: Sequence[Sequence[Sent]], arrived: Sequence[Arrived]) -> dict[str, Any]:
    """What became of the packets: counts, and the gap error on the receiving side.

    `missing`, `extra` and `changed` exclude each other: a missing packet and an extra one
    of the same length are one changed packet.  `reordered` counts the packets that would
    have to move for each sender's order to be kept.
    """
    rows = [list(row) for row in sent]
    wanted = Counter(packet.digest for row in rows for packet in row)
    came = Counter(packet.digest for packet in arrived)
    missing, extra = wanted - came, came - wanted
    changed = _same_lengths(
        Counter({(p.digest, p.length): missing[p.digest] for row in rows for p in row}),
        Counter({(p.digest, p.length): extra[p.digest] for p in arrived}),
    )
    positions = _positions(arrived)
    reordered = 0
    gaps: list[int] = []
    for row in rows:
        places = [(packet, _next(positions, packet.digest)) for packet in row]
        there = [(packet, place) for packet, place in places if place is not None]
        reordered += len(there) - _longest_rising([place for _, place in there])
        gaps += _gap_errors(there, arrived)
    return {
        "sent": sum(len(row) for row in rows),
        "arrived": len(arrived),
        "missing": missing.total() - changed,
        "extra": extra.total() - changed,
        "changed": changed,
        "reordered": reordered,
        "gap_error": _gap_report(gaps),
    }


def _same_lengths(missing: Counter[Any], extra: Counter[Any]) -> int:
    by_length: Counter[int] = Counter()
    for (_, length), number in missing.items():
        by_length[length] += max(number, 0)
    changed = 0
    for (_, length), number in extra.items():
        pairs = min(max(number, 0), by_length[length])
        by_length[length] -= pairs
        changed += pairs
    return changed


def _positions(arrived: Sequence[Arrived]) -> dict[Digest, deque[int]]:
    positions: defaultdict[Digest, deque[int]] = defaultdict(deque)
    for place, packet in enumerate(arrived):
        positions[packet.digest].append(place)
    return positions


def _next(positions: dict[Digest, deque[int]], wanted: Digest) -> int | None:
    """The first place of a packet that no other has taken: equal packets keep their order."""
    places = positions.get(wanted)
    return places.popleft() if places else None


def _longest_rising(places: Iterable[int]) -> int:
    """Length of the longest rising subsequence (patience sorting)."""
    ends: list[int] = []
    for place in places:
        at = bisect_left(ends, place)
        if at == len(ends):
            ends.append(place)
        else:
            ends[at] = place
    return len(ends)


def _gap_errors(there: list[tuple[Sent, int]], arrived: Sequence[Arrived]) -> list[int]:
    """For each pair of neighbours, how far the gap at the far end is from the due one, ns."""
    errors = []
    for (before, place_before), (after, place) in pairwise(there):
        if before.due_ns is None or after.due_ns is None:
            continue
        gap = arrived[place].ts_ns - arrived[place_before].ts_ns
        errors.append(abs(gap - (after.due_ns - before.due_ns)))
    return errors


def _gap_report(gaps: list[int]) -> dict[str, int] | None:
    if not gaps:
        return None
    histogram = sorted(Counter(gaps).items())
    return spread(histogram, histogram[0][0], histogram[-1][0])
