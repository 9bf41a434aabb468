"""One interface made ready: the program attached, a socket bound for each queue.

Everything is decided here once, in the order native before generic and zero-copy before
copy, and what the kernel granted is kept for the start-up report.  Unwinding is one path, in
reverse: program off first, then sockets, then their memory.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
from pathlib import Path
from typing import Any

from xdpcap.errors import KernelError, UsageError, XdpcapError
from xdpcap.host import kernel
from xdpcap.net import (
    Link,
    await_carrier,
    claims_zero_copy,
    rx_missed,
    rx_queues_allocated,
)
from xdpcap.net.nic_clock import HardwareClock
from xdpcap.options.frame_sizes import (
    PAGE_FRAME,
    chosen_frame,
    longest_packet,
    zero_copy_frame,
    zero_copy_room,
)
from xdpcap.options.record import RecordOptions
from xdpcap.options.units import KIB, format_bytes
from xdpcap.packets.filter import PacketFilter
from xdpcap.programs.attach import FATAL_ERRNOS, attach_best
from xdpcap.programs.builds import Variant
from xdpcap.programs.dead_man import DeadMan
from xdpcap.programs.metadata import Metadata
from xdpcap.programs.program import Program
from xdpcap.programs.timestamp_source import DeviceTime
from xdpcap.record.ledger import QueueAccount
from xdpcap.record.startup import QueueMode
from xdpcap.rings.copy_rings import CopyRing
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk

log = logging.getLogger(__name__)

# Errors of a bind that no other mode would cure.
_FINAL_BIND = {*FATAL_ERRNOS, errno.ENOMEM}
# Descriptors of the completion ring; recording sends nothing, the kernel wants one.
COMPLETION_SIZE = 64


def require_memory(options: RecordOptions, queue_count: int) -> None:
    """Raise XdpcapError unless the machine has room for the memory of so many queues.

    All of it is touched at once, so asking for more than there is would not fail but
    drive the machine out of memory.
    """
    block_bytes, block_count = options.blocks(disk=True)
    blocks = block_bytes * block_count
    # Huge pages are set aside already and are no part of MemAvailable.
    option, frames = "--umem-size", 0 if options.hugepages else options.umem_size_bytes
    if options.copies:
        option, frames = "--mirror-size", options.mirror_size_bytes
    wanted = queue_count * (frames + blocks)
    text = Path("/proc/meminfo").read_text()
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.M)
    if found is None or wanted <= int(found[1]) * KIB:
        return
    queues = "1 queue needs" if queue_count == 1 else f"{queue_count} queues need"
    raise XdpcapError(
        f"{queues} {format_bytes(wanted)} of memory and {format_bytes(int(found[1]) * KIB)} are "
        f"free; ask for less with {option}, or for fewer with --queues"
    )


class Attachment:
    """The recording program on one interface and a socket on each of `queues`.

    `tx_size` descriptors to send with; recording has none.  Without `need_wakeup` the kernel
    is not asked to say when it has to be woken.  Raises KernelError or
    UsageError with nothing left attached.
    """

    # How packets are copied where they are not taken from the host.
    mode = ""

    def __init__(
        self,
        options: RecordOptions,
        link: Link,
        queues: tuple[int, ...],
        queue_count: int,
        *,
        tx_size: int = 0,
        need_wakeup: bool = True,
        packet_filter: PacketFilter | None = None,
    ) -> None:
        self.link = link
        self.queues = queues
        self.queue_count = queue_count
        self.xsks: dict[int, Xsk] = {}
        self._options = options
        self.packet_filter = packet_filter
        self._tx_size = tx_size
        self._need_wakeup = need_wakeup and kernel.has_need_wakeup()
        self._umems: list[Umem] = []
        self._claims_zero_copy = claims_zero_copy(link.index)
        self._refusal = ""  # what the driver said last to a zero-copy socket
        self._missed_before = rx_missed(link.name)
        # Packets that the interface has missed since the start, all queues together, as
        # last asked; None when it does not say.
        self.missed = None if self._missed_before is None else 0
        # Drivers may add queues when a program is attached (virtio_net), so the maps
        # are made for all that the device was created with.
        self._map_queues = max(queue_count, rx_queues_allocated(link.name) or 0)
        self.program, self.variant, self.metadata = self._attach()
        self.attach_mode = self.program.attach_mode or ""
        self._dead_man: DeadMan | None = None
        self.clock: HardwareClock | None = None
        self.device_time: DeviceTime | None = None
        try:
            if options.dead_man_s is not None:
                self._dead_man = DeadMan(self.program, queues, options.dead_man_s)
            await_carrier(link)
            for queue in queues:
                self._bind(queue)
            await_carrier(link)
            self._tell_why_copy()
            self._open_clock()
        except BaseException:
            self.close()
            raise

    # -- program ----------------------------------------------------------------------

    def _attach(self) -> tuple[Program, Variant, Metadata]:
        try:
            return attach_best(self._options, self.link, self._map_queues, self._program_options())
        except KernelError as exc:
            raise self.packet_filter.explain(exc) if self.packet_filter else exc from None

    def _program_options(self) -> dict[str, Any]:
        """What the program is told before it is loaded, whichever build it is."""
        return {
            "dead_man_ms": round((self._options.dead_man_s or 0) * 1000),
            "sample": self._options.sample,
            "sample_by": self._options.sample_by,
            "packet_filter": self.packet_filter,
        }

    def _open_clock(self) -> None:
        """The clock that packets are stamped by, if it is the NIC's.

        Asked for what it is ahead when the NIC is ready: some drivers set it anew with every
        reset (igb_ptp_reset()).
        """
        time = self.metadata.time
        if time.by_device:
            self.clock = HardwareClock(self.link.name)
            self.device_time = DeviceTime(
                self.clock.path, self.clock.ahead_ns(), time.in_device_time
            )

    # -- sockets ------------------------------------------------------------------------

    def _modes(self) -> list[tuple[bool, bool]]:
        """(zero_copy, multi_buffer) pairs to try, best first."""
        sg = self.variant.multi_buffer
        wanted = self._options.zero_copy
        modes = []
        # A driver that does not even claim it is refused by the kernel (xp_assign_dev()).
        hopeless = kernel.has_xdp_features() and not self._claims_zero_copy
        tries = wanted == "require" or (wanted == "auto" and not hopeless)
        if tries and self.program.attach_mode == "native":
            if sg:
                modes.append((True, True))
            if self._zero_copy_frame is not None:
                modes.append((True, False))
        if wanted != "require":
            modes.append((False, sg))
        return modes

    @property
    def _zero_copy_frame(self) -> int | None:
        """The frame for a zero-copy socket that takes no packet in several of them."""
        return zero_copy_frame(self.link.mtu, self._options.frame_size)

    def _bind(self, queue: int) -> None:
        xsk = self._bind_best(queue)
        self.xsks[queue] = xsk
        if self._options.busy_poll:
            xsk.set_busy_poll()
        xsk.umem.populate_fill()

    def _make_umem(self, frame_size: int) -> Umem:
        """Memory of such frames for the next socket, in place of one that no socket wanted."""
        options = self._options
        if len(self._umems) > len(self.xsks):
            if self._umems[-1].frame_size == frame_size:
                return self._umems[-1]
            self._umems.pop().close()
        self._umems.append(
            Umem(
                options.umem_size_bytes,
                frame_size=frame_size,
                fill_size=options.ring_size_for(frame_size),
                completion_size=self._tx_size or COMPLETION_SIZE,
                hugepages=options.hugepages,
            )
        )
        return self._umems[-1]

    def _bind_best(self, queue: int) -> Xsk:
        failure: KernelError | None = None
        for zero_copy, multi_buffer in self._modes():
            frame_size = chosen_frame(self._options.frame_size)
            if zero_copy and not multi_buffer:
                frame_size = self._zero_copy_frame or frame_size
            try:
                return Xsk(
                    self._make_umem(frame_size),
                    self.link.name,
                    queue,
                    rx_size=self._options.ring_size_for(frame_size),
                    tx_size=self._tx_size,
                    zero_copy=zero_copy,
                    multi_buffer=multi_buffer,
                    need_wakeup=self._need_wakeup,
                )
            except KernelError as exc:
                failure = failure or exc
                if exc.errno in _FINAL_BIND:
                    raise
                log.debug("%s", exc)
                if zero_copy:
                    self._refusal = str(exc).split(";")[0]
        too_long = self._zero_copy_frame is None and self._claims_zero_copy
        if failure is None or (self._options.zero_copy == "require" and too_long):
            raise UsageError(f"--zero-copy require: {self._why_no_zero_copy()}") from failure
        raise failure

    def _tell_why_copy(self) -> None:
        """Say why a driver that has zero-copy copies all the same: what it says of itself
        (xdp-features) does not prove it, only XDP_OPTIONS of a bound socket does."""
        if self._options.zero_copy == "off" or all(x.zero_copy for x in self.xsks.values()):
            return
        if self.program.attach_mode == "native" and self._claims_zero_copy:
            too_long = self._zero_copy_frame is None
            reason = self._why_too_long() if too_long else self._refusal
            log.info("%s: copying, though its driver has zero-copy: %s", self.link.name, reason)

    def _why_no_zero_copy(self) -> str:
        if self.program.attach_mode == "native":
            return self._why_too_long()
        return (
            "only a native program can feed zero-copy sockets and the driver of "
            f"{self.link.name} took a generic one; leave out --zero-copy require"
        )

    def _why_too_long(self) -> str:
        """MTU against frames: what one says whose driver takes no packet in several of them."""
        name, mtu = self.link.name, self.link.mtu
        longest = longest_packet(mtu)
        room = zero_copy_room(self._options.frame_size or PAGE_FRAME)
        if zero_copy_frame(mtu, None) is not None:
            remedy = "leave out --frame-size"
        else:
            remedy = f"`ip link set {name} mtu {mtu - longest + room}`"
        return (
            f"with MTU {mtu} a packet may have {longest} bytes, the NIC of {name} writes {room} at "
            f"most into a frame; {remedy}"
        )

    # -- running --------------------------------------------------------------------------

    def start(self) -> None:
        """Let packets come: from here on they are taken from the kernel stack."""
        self.renew()
        for queue, xsk in self.xsks.items():
            self.program.bind_queue(queue, xsk.fd)

    def renew(self) -> str | None:
        """Say for --dead-man that the control thread lives; what a silence before has cost."""
        return None if self._dead_man is None else self._dead_man.renew()

    def detach(self) -> None:
        """Take the program off; sockets and counters stay readable.  Never raises."""
        self.program.detach()

    def source(self, queue: int) -> Xsk | CopyRing:
        """Where the worker of a queue takes its packets from."""
        return self.xsks[queue]

    def queue_modes(self) -> list[QueueMode]:
        """How each queue is bound: XDP_OPTIONS read back."""
        return [
            QueueMode(queue, bool(xsk.zero_copy), bool(xsk.multi_buffer))
            for queue, xsk in self.xsks.items()
        ]

    def count(self, row: QueueAccount) -> None:
        """Fill in what the kernel knows of a queue.

        Reads the socket's statistics before the program's counters, so that a packet
        that passes between the two looks in flight and never lost.
        """
        xsk = self.xsks[row.queue]
        stats = xsk.statistics()
        row.rx_dropped = stats["rx_dropped"]
        row.rx_ring_full = stats["rx_ring_full"]
        row.fill_ring_empty = stats["fill_ring_empty"]
        row.ring_size, row.zero_copy = xsk.rx_size, bool(xsk.zero_copy)
        self._count_verdicts(row)

    def _count_verdicts(self, row: QueueAccount) -> None:
        """Fill in what the program did with a queue's packets."""
        row.attach_mode = self.attach_mode
        if not self.program.has_counters:
            # A user's program without our counters: what it redirected came, or was lost then;
            # what it passed or dropped nobody has counted.  `received` was read before the losses.
            row.redirected = row.received + row.beyond_limit + row.rx_dropped + row.rx_ring_full
            return
        verdict = self.program.verdicts()[row.queue]
        for name, count in verdict._asdict().items():
            setattr(row, name, count)

    def ask_missed(self) -> None:
        """Ask the interface what it has missed: a millisecond of netlink, not for a worker."""
        try:
            now = rx_missed(self.link.name)
        except (OSError, XdpcapError):
            return  # an extra: what was known before stays
        if now is not None and self._missed_before is not None:
            self.missed = now - self._missed_before

    def uncovered(self) -> int:
        """Packets of queues without a socket, which went to the kernel stack; 0 if not counted."""
        counts = self.program.verdicts() if self.program.has_counters else []
        return sum(v.passed for q, v in enumerate(counts) if q not in self.queues)

    def close(self) -> None:
        """Detach, then close sockets, then memory; safe on a half-made object."""
        self.program.detach()
        if self._dead_man is not None:
            self._dead_man.close()
        for xsk in self.xsks.values():
            xsk.close()
        for umem in self._umems:
            with contextlib.suppress(ValueError):
                umem.close()
        self.program.close()
        if self.clock is not None:
            self.clock.close()

    @property
    def comments(self) -> list[str]:
        """What files say of the interface: whose clock, whose hash."""
        return self.metadata.comments(self.variant, self.device_time)

    @property
    def tsoffset_s(self) -> int:
        """Seconds that a reader of the files has to add to their times."""
        return 0 if self.device_time is None else self.device_time.tsoffset_s

    @property
    def frame_size(self) -> int:
        """Bytes of a frame; queues that are bound alike have the same."""
        return max(umem.frame_size for umem in self._umems)

    @property
    def ring_size(self) -> int:
        """Descriptors of a receive ring: fewer than asked for where there are fewer frames."""
        return self._options.ring_size_for(self.frame_size)

    @property
    def hugepages(self) -> bool:
        """Whether every UMEM lies in huge pages."""
        return bool(self._umems) and all(umem.hugepages for umem in self._umems)
