"""Where a replay's packets come from: all in memory, or read ahead of the sender.

A `BatchSource` yields batches in the order of the files.  With preload there is one batch,
which may be sent many times; else a reader thread stays a few batches ahead, and memory
is bounded by their number and size.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from xdpcap.errors import UsageError, XdpcapError, explain
from xdpcap.host.threads import ThreadGroup
from xdpcap.options.addresses import parse_vlan
from xdpcap.options.replay import ReplayOptions
from xdpcap.packets.packet_set import PacketSet
from xdpcap.replay.plan import Pacer, Plan, select
from xdpcap.savefile.batch_reader import BatchReader
from xdpcap.savefile.input_file import open_source

# One batch while streaming, bytes of packets: with the last packet it still fits 8 MiB, the step
# in which a set grows.  And how many may wait for the sender.
BATCH_BYTES = (8 << 20) - (64 << 10)
BATCHES_AHEAD = 4
# How much larger a compressed file may become; what is larger still is streamed.
COMPRESSION_GUESS = 8
COMPRESSED = (".gz", ".zst")
TAG_BYTES = 4
# Frames that the kernel makes one packet of in copy mode, whatever it was built with; of
# more it refuses each, and completes them all the same (net/xdp/xsk.c, xsk_build_skb()
# and xsk_build_skb_zerocopy(); MAX_SKB_FRAGS).
MOST_FRAMES = 17


@dataclass
class Batch:
    """Packets that are sent together, and when each is due (None: at once).

    `sides` has a byte a packet with two interfaces, else it is None.
    """

    packets: PacketSet
    plan: Plan | None
    sides: bytes | None = None

    def side(self, number: int) -> tuple[PacketSet, Plan | None]:
        """What leaves by the first (0) or second (1) interface."""
        if self.sides is None:
            return self.packets, self.plan
        packets, plan = select(self.packets, self.plan, self.sides, number)
        return packets, plan


@dataclass
class Reading:
    """What the reader has met so far."""

    read: int = 0
    truncated: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    skipped_numbers: dict[str, list[int]] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)


class BatchSource:
    """Reads `options.files` into batches, edited by `edit` and timed by `pacer`.

    `longest` is the longest frame that the MTU allows, bytes.  `sides` tells for each packet,
    as read and before it is edited, which interface it leaves by: 0 or 1.  Raises
    UsageError for what is no capture file; damage is kept in `reading`, or raised with
    --strict.  A thread that reads ahead is one of `threads`.
    """

    def __init__(
        self,
        options: ReplayOptions,
        *,
        longest: int,
        pacer: Pacer | None,
        edit: Callable[[PacketSet], PacketSet],
        threads: ThreadGroup,
        sides: Callable[[PacketSet], bytes] | None = None,
    ) -> None:
        self.reading = Reading()
        self.preload = options.preload if options.preload is not None else _fits(options)
        self._options = options
        self._longest = _sendable(options, longest)
        self._pacer = pacer
        self._edit = edit
        self._sides = sides
        self._threads = threads
        self._stopped = threading.Event()

    def batches(self) -> Iterator[Batch]:
        """The batches, one after the other; one only when `preload`."""
        if self.preload:
            packets = PacketSet()
            self._read_all(packets)
            yield self._batch(packets)
        else:
            if self._options.strict:
                self._check()
            yield from self._stream()

    @property
    def pass_ns(self) -> int:
        """How long one pass over what has been planned so far takes; 0 at top speed."""
        return 0 if self._pacer is None else int(self._pacer.pass_ns)

    def stop(self) -> None:
        """Make a reader thread end; from any thread."""
        self._stopped.set()

    # -- reading ----------------------------------------------------------------------------

    def _batch(self, packets: PacketSet) -> Batch:
        sides = None if self._sides is None else self._sides(packets)
        packets = self._edit(packets)
        plan = None if self._pacer is None else self._pacer.plan(packets)
        return Batch(packets, plan, sides)

    def _macs(self) -> bytes:
        options = self._options
        if options.dst_mac is None or options.src_mac is None:
            return b""
        return options.dst_mac + options.src_mac

    @contextlib.contextmanager
    def _open(self, path: str) -> Iterator[BatchReader]:
        """A file's reader; what it has met is in `reading` afterwards."""
        source, options = open_source(path), self._options
        with BatchReader(
            source.fd,
            source.name,
            longest=self._longest,
            # A tag that is added takes the room that the MTU leaves for one.
            tag_room=0 if _adds_tag(options) else TAG_BYTES,
            pad=options.pad,
            macs=self._macs(),
            before=self.reading.read,
        ) as reader:
            yield reader
            # A compressed stream that breaks its format is why the capture in it breaks off.
            self._note(reader, source.damage or reader.damage)

    def _read_all(self, packets: PacketSet) -> None:
        """Every file into one set."""
        for path in self._options.files:
            with self._open(path) as reader:
                while not reader.ended:
                    reader.read(packets)

    def _portions(self) -> Iterator[PacketSet]:
        """The files piece by piece, up to their end or until the feed is stopped."""
        for path in self._options.files:
            with self._open(path) as reader:
                while not reader.ended and not self._stopped.is_set():
                    packets = PacketSet()
                    reader.read(packets, max_bytes=BATCH_BYTES)
                    yield packets

    def _check(self) -> None:
        """Read everything once and keep nothing, since --strict sends all or nothing."""
        for _ in self._portions():
            pass
        self.reading = Reading()

    def _note(self, reader: BatchReader, damage: str | None) -> None:
        reading = self.reading
        reading.read += reader.packet_count
        reading.truncated += reader.truncated_count
        for cause, (count, numbers) in reader.skipped.items():
            reading.skipped[cause] = reading.skipped.get(cause, 0) + count
            reading.skipped_numbers.setdefault(cause, []).extend(numbers)
            if count and self._options.strict:
                raise XdpcapError(
                    f"{reader.name}: packet {numbers[0]} is {cause.replace('_', ' ')} to be sent; "
                    "leave out --strict to skip such packets"
                )
        if damage is not None:
            if self._options.strict:
                raise XdpcapError(f"{damage}; nothing was sent because of --strict")
            reading.damage.append(damage)

    # -- streaming ----------------------------------------------------------------------------

    def _stream(self) -> Iterator[Batch]:
        ahead: queue.Queue[Batch | None] = queue.Queue(BATCHES_AHEAD)
        reader = self._threads.add(
            # It may wait for a pipe, and uses nothing but what it reads.
            "reader",
            lambda: self._read_ahead(ahead),
            stop=self.stop,
            may_stay=True,
        )
        reader.start()
        while True:
            try:
                item = ahead.get(timeout=0.1)
            except queue.Empty:
                if self._stopped.is_set():
                    return  # The reader may be waiting for a pipe.
                if reader.failure is not None and ahead.empty():
                    raise _as_error(reader.failure) from None
                continue
            if item is None:
                return
            yield item

    def _put(self, ahead: queue.Queue[Batch | None], item: Batch | None) -> None:
        while not self._stopped.is_set():
            try:
                ahead.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def _read_ahead(self, ahead: queue.Queue[Batch | None]) -> None:
        # Whatever it raises is raised again where the batches are taken.
        for packets in self._portions():
            if len(packets):
                self._put(ahead, self._batch(packets))
        self._put(ahead, None)


def _as_error(failure: BaseException) -> Exception:
    """What a reader's failure is raised as where the batches are taken: no SystemExit ends that."""
    return failure if isinstance(failure, Exception) else XdpcapError(explain(failure))


def _sendable(options: ReplayOptions, longest: int) -> int:
    """The longest frame without a VLAN tag that the kernel takes of those that the MTU allows."""
    longest = min(longest, MOST_FRAMES * options.frame_size - TAG_BYTES)
    needed = -(-(longest + TAG_BYTES) // options.frame_size)
    if needed > options.ring_size:
        raise UsageError(
            f"--ring-size {options.ring_size}: the longest packet that the MTU allows takes "
            f"{needed} descriptors; use {1 << (needed - 1).bit_length()} or more"
        )
    return longest


def _adds_tag(options: ReplayOptions) -> bool:
    return options.vlan is not None and parse_vlan(options.vlan).what == "add"


def _fits(options: ReplayOptions) -> bool:
    """Whether all files together can be expected to fit the preload bound."""
    total = 0
    for path in options.files:
        if path == "-":
            return False
        try:
            size = os.stat(path).st_size
        except OSError as exc:
            raise UsageError(f"{path}: {exc.strerror}; name a capture file") from None
        total += size * (COMPRESSION_GUESS if path.endswith(COMPRESSED) else 1)
    return total <= options.preload_bound_bytes
