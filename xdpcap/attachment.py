"""One interface made ready: the program attached, a socket bound for each queue.

Everything is decided here once, in the order native before generic and zero-copy before
copy, and what the kernel granted is kept for the verdict.  Unwinding is one path, in
reverse: program off first, then sockets, then their memory.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
from pathlib import Path

from xdpcap import dispatcher, kernel
from xdpcap._bpf import Program
from xdpcap._umem import Umem
from xdpcap._xsk import Xsk
from xdpcap.config import RecordConfig
from xdpcap.errors import KernelError, UsageError, XdpcapError
from xdpcap.net import Link, rx_missed, rx_queues_allocated, wait_for_carrier
from xdpcap.stats import QueueAccount
from xdpcap.units import KIB, format_bytes
from xdpcap.variants import Variant, variants

log = logging.getLogger(__name__)

# igb takes its link down for seconds at attach and at bind.
CARRIER_WAIT_S = 15.0
# Errors that no other mode would cure.
_FINAL = {errno.EPERM, errno.EACCES, errno.EBUSY, errno.ENODEV, errno.ENOMEM}
# Descriptors of the completion ring; recording sends nothing, the kernel wants one.
COMPLETION_SIZE = 64


def require_memory(config: RecordConfig, queue_count: int) -> None:
    """Raise XdpcapError unless the machine has room for the memory of so many queues.

    All of it is touched at once, so asking for more than there is would not fail but
    drive the machine out of memory.
    """
    block_bytes, block_count = config.blocks(disk=True)
    blocks = block_bytes * block_count
    # Huge pages are set aside already and are no part of MemAvailable.
    frames = 0 if config.hugepages else config.umem_size_bytes
    wanted = queue_count * (frames + blocks)
    text = Path("/proc/meminfo").read_text()
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.M)
    if found is None or wanted <= int(found[1]) * KIB:
        return
    queues = "1 queue needs" if queue_count == 1 else f"{queue_count} queues need"
    raise XdpcapError(
        f"{queues} {format_bytes(wanted)} of memory and {format_bytes(int(found[1]) * KIB)} are "
        "free; ask for less with --umem-size, or for fewer with --queues"
    )


def attach_program(link: Link, variant: Variant, queue_count: int, mode: str) -> Program:
    """The recording program, loaded for so many queues and attached; nothing stays on failure."""
    program = Program(variant.path, queue_count, clock=variant.clock)
    try:
        program.attach(link.index, mode, link=kernel.has_bpf_link())
    except UsageError as exc:
        program.close()
        raise UsageError(f"{link.name}: {exc}".replace("IFACE", link.name)) from None
    except KernelError:
        program.close()
        raise
    return program


def await_carrier(link: Link) -> None:
    """A link that had a carrier before may lose it for seconds when a program is attached."""
    if link.carrier and not wait_for_carrier(link.name, CARRIER_WAIT_S):
        log.warning("%s: no carrier after %g s", link.name, CARRIER_WAIT_S)


class Attachment:
    """The recording program on one interface and a socket on each of `queues`.

    `tx_size` descriptors to send with; recording has none.  Without `need_wakeup` the kernel
    is not asked to say when it has to be woken.  Raises KernelError or
    UsageError with nothing left attached.
    """

    def __init__(
        self,
        config: RecordConfig,
        link: Link,
        queues: tuple[int, ...],
        queue_count: int,
        *,
        tx_size: int = 0,
        need_wakeup: bool = True,
    ) -> None:
        self.link = link
        self.queues = queues
        self.queue_count = queue_count
        self.xsks: dict[int, Xsk] = {}
        self._config = config
        self._tx_size = tx_size
        self._need_wakeup = need_wakeup and kernel.has_need_wakeup()
        self._umems: list[Umem] = []
        self._missed_before = rx_missed(link.name)
        # Packets that the interface has missed since the start, all queues together, as
        # last asked; None when it does not say.
        self.missed = None if self._missed_before is None else 0
        # Drivers may add queues when a program is attached (virtio_net), so the maps
        # are made for all that the device was created with.
        self._map_queues = max(queue_count, rx_queues_allocated(link.name) or 0)
        self.program, self.variant = self._attach()
        self.attach_mode = self.program.attach_mode or ""
        try:
            if not wait_for_carrier(link.name, 0.0):
                log.info("%s: waiting for the carrier after attaching", link.name)
                await_carrier(link)
            for queue in queues:
                self._bind(queue)
        except BaseException:
            self.close()
            raise

    # -- program ----------------------------------------------------------------------

    def _attach(self) -> tuple[Program, Variant]:
        wanted = self._config.attach
        joined = dispatcher.join(self.link, self._map_queues, wanted)
        if joined is not None:
            return joined
        modes = ("native", "generic") if wanted == "auto" else (wanted,)
        failure: Exception | None = None
        for mode in modes:
            for variant in variants():
                try:
                    return attach_program(self.link, variant, self._map_queues, mode), variant
                except KernelError as exc:
                    # The first word is about the best mode: that is the one to report.
                    failure = failure or exc
                    if exc.errno in _FINAL:
                        raise
                    log.debug("%s", exc)
        assert failure is not None
        raise failure

    # -- sockets ------------------------------------------------------------------------

    def _modes(self) -> list[tuple[bool, bool]]:
        """(zero_copy, multi_buffer) pairs to try, best first."""
        sg = self.variant.multi_buffer
        wanted = self._config.zero_copy
        modes = []
        if wanted != "off" and self.program.attach_mode == "native":
            modes.append((True, sg))
            if sg and self._fits_one_frame():
                modes.append((True, False))
        if wanted != "require":
            modes.append((False, sg))
        return modes

    def _fits_one_frame(self) -> bool:
        # Ethernet header, two VLAN tags, and the kernel's 256 bytes of headroom.
        return self.link.mtu + 14 + 8 <= self._config.frame_size - 256

    def _bind(self, queue: int) -> None:
        config = self._config
        ring_size = config.effective_ring_size
        umem = Umem(
            config.umem_size_bytes,
            frame_size=config.frame_size,
            fill_size=ring_size,
            completion_size=self._tx_size or COMPLETION_SIZE,
            hugepages=config.hugepages,
        )
        self._umems.append(umem)
        xsk = self._bind_best(umem, queue, ring_size)
        self.xsks[queue] = xsk
        if config.busy_poll:
            xsk.set_busy_poll()
        umem.populate_fill()

    def _bind_best(self, umem: Umem, queue: int, ring_size: int) -> Xsk:
        failure: KernelError | None = None
        for zero_copy, multi_buffer in self._modes():
            try:
                return Xsk(
                    umem,
                    self.link.name,
                    queue,
                    rx_size=ring_size,
                    tx_size=self._tx_size,
                    zero_copy=zero_copy,
                    multi_buffer=multi_buffer,
                    need_wakeup=self._need_wakeup,
                )
            except KernelError as exc:
                failure = failure or exc
                if exc.errno in _FINAL:
                    raise
                log.debug("%s", exc)
        if failure is None:
            raise UsageError(
                "--zero-copy require: only a native program can feed zero-copy sockets and the "
                f"driver of {self.link.name} took a generic one; leave out --zero-copy require"
            )
        raise failure

    # -- running --------------------------------------------------------------------------

    def start(self) -> None:
        """Let packets come: from here on they are taken from the kernel stack."""
        for queue, xsk in self.xsks.items():
            self.program.bind_queue(queue, xsk.fd)

    def detach(self) -> None:
        """Take the program off; sockets and counters stay readable.  Never raises."""
        self.program.detach()

    def count(self, row: QueueAccount) -> None:
        """Fill in what the kernel knows of a queue.

        Reads the socket's statistics before the program's counters, so that a packet
        that passes between the two looks in flight and never lost.
        """
        stats = self.xsks[row.queue].statistics()
        row.rx_dropped = stats["rx_dropped"]
        row.rx_ring_full = stats["rx_ring_full"]
        row.fill_ring_empty = stats["fill_ring_empty"]
        verdict = self.program.verdicts()[row.queue]
        row.redirected, row.passed = verdict.redirected, verdict.passed
        row.dropped = verdict.dropped

    def ask_missed(self) -> None:
        """Ask the interface what it has missed: a millisecond of netlink, not for a worker."""
        try:
            now = rx_missed(self.link.name)
        except (OSError, XdpcapError):
            return  # an extra: what was known before stays
        if now is not None and self._missed_before is not None:
            self.missed = now - self._missed_before

    def uncovered(self) -> int:
        """Packets of queues without a socket, which went to the kernel stack."""
        counts = self.program.verdicts()
        return sum(v.passed for q, v in enumerate(counts) if q not in self.xsks)

    def close(self) -> None:
        """Detach, then close sockets, then memory; safe on a half-made object."""
        self.program.detach()
        for xsk in self.xsks.values():
            xsk.close()
        for umem in self._umems:
            with contextlib.suppress(ValueError):
                umem.close()
        self.program.close()

    @property
    def hugepages(self) -> bool:
        """Whether every UMEM lies in huge pages."""
        return bool(self._umems) and all(umem.hugepages for umem in self._umems)
