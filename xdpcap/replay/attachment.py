"""One interface made ready for sending: a socket with a TX ring on each queue.

Some drivers let a zero-copy TX socket bind only while a native program is attached
(virtio_net), others let it bind and then refuse to send (ixgbe, igc and igb with ENXIO or
EINVAL, stmmac too).  Where zero-copy is refused in either way without one, the recording
program is attached with no socket in its map, so that it passes every packet to the kernel
stack.

With --launch-time all queues get zero-copy sockets whose packets carry launch times, or none
does: then everything is as without it, and `launch_time` says why.
"""

from __future__ import annotations

import contextlib
import errno

from xdpcap.errors import KernelError, XdpcapError
from xdpcap.host import kernel
from xdpcap.net import Link, await_carrier, rx_queue_count, tx_dropped
from xdpcap.net.nic_clock import HardwareClock
from xdpcap.options.replay import ReplayOptions
from xdpcap.programs.attach import attach_program
from xdpcap.programs.builds import variants
from xdpcap.programs.program import Program
from xdpcap.replay import launch_time
from xdpcap.rings.tx_metadata import MetadataUmem, MetadataXsk
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk

# An Ethernet header and two VLAN tags.
HEADERS_BYTES = 22
# The fill ring is not used for sending; the kernel wants one all the same.
FILL_SIZE = 64
_REFUSED = {errno.EOPNOTSUPP, errno.EINVAL, errno.EPROTONOSUPPORT, errno.ENXIO}


class TxAttachment:
    """Sockets for `queues` of one interface.

    Without `need_wakeup` the kernel is woken for each batch, whether it asks or not.
    Raises KernelError or UsageError with nothing left attached.
    """

    def __init__(
        self,
        options: ReplayOptions,
        link: Link,
        queues: tuple[int, ...],
        *,
        need_wakeup: bool = True,
    ) -> None:
        self.link = link
        self.queues = queues
        self.program: Program | None = None
        self.xsks: dict[int, Xsk] = {}
        # The NIC's clock, with --launch-time; and what the start-up report says of it.
        self.clock: HardwareClock | None = None
        self.launch_time = ""
        self._dropped_before = tx_dropped(link.name)
        self._options = options
        self._need_wakeup = need_wakeup and kernel.has_need_wakeup()
        self._umems: list[Umem] = []
        try:
            if options.attach in ("native", "generic"):
                self._attach(options.attach)
            if not (options.launch_time and self._bind_timed()):
                for queue in queues:
                    self.xsks[queue] = self._bind(queue)
            await_carrier(link)
        except BaseException:
            self.close()
            raise

    @property
    def attach_mode(self) -> str:
        """The mode of our passing program, or "none"."""
        return (self.program.attach_mode or "none") if self.program is not None else "none"

    @property
    def zero_copy(self) -> bool:
        """Whether every queue sends without a copy."""
        return all(xsk.zero_copy for xsk in self.xsks.values())

    @property
    def frame_size(self) -> int:
        """Bytes of a frame."""
        return self._options.frame_size

    @property
    def ring_size(self) -> int:
        """Descriptors of a TX ring."""
        return self._options.ring_size

    def _attach(self, mode: str) -> None:
        queue_count = rx_queue_count(self.link.name)
        self.program = attach_program(self.link, next(variants()), queue_count, mode)
        await_carrier(self.link)

    def _bind_timed(self) -> bool:
        """Sockets for launch times on all queues; False, with none left, when it can't be."""
        reason = launch_time.lacking(self._options, self.link, self.queues)
        if reason is None:
            try:
                self.clock = HardwareClock(self.link.name)
                if self.program is None:
                    self._attach("native")
                for queue in self.queues:
                    self.xsks[queue] = self._socket(queue, True)
                self.launch_time = launch_time.granted_text(self.clock)
                return True
            except XdpcapError as exc:
                reason = str(exc).split(";")[0]
            self._close_sockets()
            if self._options.attach == "auto":
                self._detach()
        self.launch_time = launch_time.withheld_text(reason)
        return False

    def _bind(self, queue: int) -> Xsk:
        wanted = self._options.zero_copy
        if wanted == "off":
            return self._socket(queue, False)
        try:
            return self._zero_copy_socket(queue)
        except KernelError as exc:
            if exc.errno not in _REFUSED:
                raise
            refusal = exc
        if self._may_need_program():
            with contextlib.suppress(KernelError):
                self._attach("native")
                return self._zero_copy_socket(queue)
            self._detach()
        if wanted == "require":
            raise refusal
        return self._socket(queue, False)

    def _zero_copy_socket(self, queue: int) -> Xsk:
        """A socket that was bound without a copy, and that the driver is ready to send from."""
        xsk = self._socket(queue, True)
        number = xsk.wake()
        if number in _REFUSED:
            xsk.close()
            self._umems.pop().close()
            where = f"sendto({self.link.name} queue {queue}, ZEROCOPY)"
            raise KernelError(
                where, number, "the driver may want a program: leave out --attach none"
            )
        return xsk

    def _may_need_program(self) -> bool:
        # No virtual driver has zero-copy; attaching would only disturb its link.
        virtual = self.link.kind in ("veth", "dummy", "bridge", "tun")
        return self._options.attach == "auto" and self.program is None and not virtual

    def _socket(self, queue: int, zero_copy: bool) -> Xsk:
        options = self._options
        umem_class, xsk_class = (Umem, Xsk) if self.clock is None else (MetadataUmem, MetadataXsk)
        umem = umem_class(
            options.umem_size_bytes,
            frame_size=options.frame_size,
            fill_size=FILL_SIZE,
            completion_size=options.ring_size,
        )
        try:
            xsk = xsk_class(
                umem,
                self.link.name,
                queue,
                rx_size=0,
                tx_size=options.ring_size,
                zero_copy=zero_copy,
                multi_buffer=self._multi_buffer(umem),
                need_wakeup=self._need_wakeup,
            )
        except BaseException:
            umem.close()
            raise
        self._umems.append(umem)
        return xsk

    def _multi_buffer(self, umem: Umem) -> bool:
        # Drivers that send no packet of several frames without a copy refuse to bind for it
        # (net/xdp/xsk_buff_pool.c, xp_assign_dev(); virtio_net, igb, igc, stmmac).
        room = umem.frame_size - umem.tx_metadata_len
        return self.link.mtu + HEADERS_BYTES > room and kernel.has_multi_buffer()

    def tx_errors(self) -> dict[str, int]:
        """tx_invalid_descs and tx_ring_empty of all queues together (XDP_STATISTICS).

        And tx_dropped: what the interface has dropped since, whoever sent it.  A packet
        that was completed may be among them.
        """
        sums = {"tx_invalid_descs": 0, "tx_ring_empty": 0, "tx_dropped": 0}
        for xsk in self.xsks.values():
            stats = xsk.statistics()
            for name in ("tx_invalid_descs", "tx_ring_empty"):
                sums[name] += stats[name]
        dropped = tx_dropped(self.link.name)
        if dropped is not None and self._dropped_before is not None:
            sums["tx_dropped"] = dropped - self._dropped_before
        return sums

    def _detach(self) -> None:
        if self.program is not None:
            self.program.close()
            self.program = None

    def close(self) -> None:
        """Detach, then close sockets, then memory; safe on a half-made object."""
        self._detach()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for xsk in self.xsks.values():
            xsk.close()
        self.xsks.clear()
        for umem in self._umems:
            with contextlib.suppress(ValueError):
                umem.close()
        self._umems.clear()
        if self.clock is not None:
            self.clock.close()
            self.clock = None
