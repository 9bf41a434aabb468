"""An AF_XDP socket on one queue, with its RX and TX rings.

Purpose: create and bind the socket (libxdp's xsk_socket__create, without its
program), read back what the kernel granted, read XDP_STATISTICS, and give Python a
plain way to receive and send packets.  The recorder's hot loop uses the rings
directly (`record.loop`).
Owner: one thread; the rings are single-producer, single-consumer.
Frees: close(); the UMEM is closed after its sockets.

Source relied on: Documentation/networking/af_xdp.rst; net/xdp/xsk.c.
"""

cimport cython
from libc.errno cimport EBUSY, errno
from libc.string cimport memcpy, memset
from libc.stdint cimport uint16_t, uint32_t

from xdpcap.clib.posix cimport POLLIN, SOL_SOCKET, poll, pollfd, setsockopt
from xdpcap.clib.libxdp cimport (
    SO_BUSY_POLL_BUDGET,
    SO_PREFER_BUSY_POLL,
    XDP_COPY,
    XDP_PKT_CONTD,
    XDP_USE_NEED_WAKEUP,
    XDP_USE_SG,
    XDP_ZEROCOPY,
    XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
    xdp_desc,
    xdp_statistics,
    xsk_ring_cons__cancel,
    xsk_ring_cons__comp_addr,
    xsk_ring_cons__peek,
    xsk_ring_cons__release,
    xsk_ring_cons__rx_desc,
    xsk_ring_prod__fill_addr,
    xsk_ring_prod__reserve,
    xsk_ring_prod__submit,
    xsk_ring_prod__tx_desc,
    xsk_socket__create,
    xsk_socket__delete,
    xsk_socket__fd,
    xsk_socket_config,
)
from xdpcap.host.forks cimport leave_ring_out_of_forks
from xdpcap.rings.socket_calls cimport bind_hint, granted_zero_copy, kick_tx, read_statistics
from xdpcap.rings.umem cimport pool_give, pool_take

import errno as _errno
import time

from xdpcap.errors import KernelError, UsageError


cdef extern from *:
    """
    #include <sys/socket.h>
    #ifndef SO_BUSY_POLL
    #define SO_BUSY_POLL 46
    #endif
    """
    int SO_BUSY_POLL

# A queue that another socket has just left answers EBUSY until the kernel's deferred
# release has run (net/xdp/xdp_umem.c, xdp_umem_release_deferred()).  Measured on
# veth: under 50 ms.
cdef enum:
    REBIND_TRIES = 40
REBIND_WAIT_S = 0.025


@cython.no_gc_clear
cdef class Xsk(Held):
    """A socket bound to one queue of an interface.

    Parameters
    ----------
    umem : Umem
        Memory of its own: one socket a Umem.  It must stay open until the socket is
        closed, and the queue is free for others once both are.
    interface, queue : str, int
        Where to bind, in the caller's network namespace.
    rx_size, tx_size : int
        Descriptors in the rings, powers of two; 0 leaves a ring out.
    zero_copy : bool
        True binds with XDP_ZEROCOPY, False with XDP_COPY.  What was granted is read
        back from XDP_OPTIONS into the attribute `zero_copy`.
    multi_buffer : bool
        Bind with XDP_USE_SG (kernel 6.6): packets longer than a frame arrive as
        several descriptors.
    need_wakeup : bool
        Bind with XDP_USE_NEED_WAKEUP (kernel 5.4).

    Binding takes no packets by itself: a program must redirect to `fd` through an
    XSKMAP (`xdpcap.Program`).  EBUSY is retried for a second.  Raises KernelError.
    """

    def __cinit__(self, Umem umem not None, str interface not None, uint32_t queue, *,
                  uint32_t rx_size=2048, uint32_t tx_size=0, bint zero_copy=False,
                  bint multi_buffer=False, bint need_wakeup=True):
        self.fd = -1
        for name, size in (("RX", rx_size), ("TX", tx_size)):
            if size & (size - 1):
                raise UsageError(f"{name} ring size {size} is not a power of two")
        umem._check_open()
        self.umem = umem
        self.interface = interface
        self.queue = queue
        self.rx_size = rx_size
        self.tx_size = tx_size
        self.multi_buffer = multi_buffer
        self.need_wakeup = need_wakeup
        self.name = f"the socket of {interface} queue {queue}"
        self._claim()
        # Before bind(): that is tried again after pauses in which other threads run.
        umem.hold(self.name)
        self.holds_umem = True
        self._bind(zero_copy)
        umem._bound = True
        self.zero_copy = granted_zero_copy(self.fd)

    def _claim(self):
        # libxdp makes a UMEM's first socket from the UMEM's own descriptor (xsk.c,
        # xsk_socket__create_shared()).  Its rings keep the size of the first attempt,
        # even of one that failed, and it stays bound until the UMEM is closed.
        if self.umem._bound or self.umem.holders:
            raise ValueError("a UMEM serves one socket in its life; make a new Umem")
        if self.umem._bind_tried and (
                self.umem._rx_size != self.rx_size or self.umem._tx_size != self.tx_size):
            raise ValueError("ring sizes are those of the UMEM's first socket; make a new Umem")
        self.umem._bind_tried = True
        self.umem._rx_size = self.rx_size
        self.umem._tx_size = self.tx_size

    def _bind(self, bint zero_copy):
        cdef uint16_t flags = <uint16_t>(
            (XDP_ZEROCOPY if zero_copy else XDP_COPY)
            | (XDP_USE_SG if self.multi_buffer else 0)
            | (XDP_USE_NEED_WAKEUP if self.need_wakeup else 0))
        for attempt in range(REBIND_TRIES):
            err = self._bind_once(flags)
            if err != -EBUSY:
                break
            time.sleep(REBIND_WAIT_S)
        if err:
            mode = "ZEROCOPY" if zero_copy else "COPY"
            raise KernelError(f"bind({self.interface} queue {self.queue}, {mode})", err,
                              bind_hint(-err, self.interface))

    def _bind_once(self, uint16_t flags):
        """Make rings and socket, and bind it: 0 and `fd` is there, or -errno."""
        cdef xsk_socket_config config
        cdef int err
        cdef bytes name = self.interface.encode()
        if self.umem.handle == NULL:
            raise TypeError("the socket of a MetadataUmem is a MetadataXsk")
        memset(&config, 0, sizeof(config))
        memset(&self.rx, 0, sizeof(self.rx))
        memset(&self.tx, 0, sizeof(self.tx))
        config.rx_size = self.rx_size
        config.tx_size = self.tx_size
        config.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD
        config.bind_flags = flags
        err = xsk_socket__create(
            &self.handle, name, self.queue, self.umem.handle,
            &self.rx if self.rx_size else NULL, &self.tx if self.tx_size else NULL, &config)
        if err:
            self.handle = NULL
            return err
        self.fd = xsk_socket__fd(self.handle)
        if self.rx_size:
            leave_ring_out_of_forks(self.rx.producer, <xdp_desc *>self.rx.ring + self.rx_size,
                                    "RX ring")
        if self.tx_size:
            leave_ring_out_of_forks(self.tx.producer, <xdp_desc *>self.tx.ring + self.tx_size,
                                    "TX ring")
        return 0

    def set_busy_poll(self, int budget=64, int timeout_us=20):
        """Preferred busy polling (kernel 5.11): the receiving thread drives the NAPI.

        `budget` packets a poll, `timeout_us` for the socket's busy-poll time.  Wants
        `napi_defer_hard_irqs` and `gro_flush_timeout` set on the device to keep the
        interrupts off (Documentation/networking/napi.rst).  Raises KernelError.
        """
        cdef int value = 1
        self._check_open()
        for name, option, number in (
            ("SO_PREFER_BUSY_POLL", SO_PREFER_BUSY_POLL, 1),
            ("SO_BUSY_POLL", SO_BUSY_POLL, timeout_us),
            ("SO_BUSY_POLL_BUDGET", SO_BUSY_POLL_BUDGET, budget),
        ):
            value = number
            if setsockopt(self.fd, SOL_SOCKET, option, &value, sizeof(value)):
                raise KernelError(f"setsockopt({name})", errno, "busy polling needs kernel 5.11")

    def statistics(self):
        """The kernel's counters of this socket (XDP_STATISTICS) as a dict.

        Keys: rx_dropped, rx_invalid_descs, tx_invalid_descs, rx_ring_full,
        fill_ring_empty, tx_ring_empty; docs/ledger.md says what each counts.
        """
        cdef xdp_statistics stats
        self._check_open()
        err = read_statistics(self.fd, &stats)
        if err:
            raise KernelError("getsockopt(XDP_STATISTICS)", err)
        return {
            "rx_dropped": stats.rx_dropped,
            "rx_invalid_descs": stats.rx_invalid_descs,
            "tx_invalid_descs": stats.tx_invalid_descs,
            "rx_ring_full": stats.rx_ring_full,
            "fill_ring_empty": stats.rx_fill_ring_empty_descs,
            "tx_ring_empty": stats.tx_ring_empty_descs,
        }

    # -- receiving, for tool authors ------------------------------------------------

    def receive(self, uint32_t limit=64, int timeout_ms=0):
        """Up to `limit` packets as bytes, waiting at most `timeout_ms` for the first.

        Each packet is copied out and its frames go straight back to the fill ring, so
        nothing returned refers to the UMEM.  Call `umem.populate_fill()` once before.
        """
        self._check_open()
        if self.rx_size == 0:
            raise ValueError("the socket was made without an RX ring")
        self.hold("receive()")  # which waits without the GIL
        try:
            return self._receive(limit, timeout_ms)
        finally:
            self.release("receive()")

    cdef _receive(self, uint32_t limit, int timeout_ms):
        cdef uint32_t index = 0, count
        cdef pollfd waiting
        count = xsk_ring_cons__peek(&self.rx, limit, &index)
        if count == 0 and timeout_ms:
            waiting.fd = self.fd
            waiting.events = <short>POLLIN
            with nogil:
                poll(&waiting, 1, timeout_ms)
            count = xsk_ring_cons__peek(&self.rx, limit, &index)
        return self._gather(index, count)

    cdef _gather(self, uint32_t index, uint32_t count):
        cdef const xdp_desc *desc
        cdef uint32_t i, taken = 0, fill_index = 0
        cdef uint64_t mask = ~(<uint64_t>self.umem.frame_size - 1)
        packets = []
        parts = []
        for i in range(count):
            desc = xsk_ring_cons__rx_desc(&self.rx, index + i)
            parts.append((<const char *>self.umem.area + desc.addr)[:desc.len])
            if desc.options & XDP_PKT_CONTD:
                continue
            packets.append(b"".join(parts))
            parts = []
            taken = i + 1
        if taken:
            # Every frame that is not in the fill ring fits into it: see Umem.fill_size.
            if xsk_ring_prod__reserve(&self.umem.fill, taken, &fill_index) == taken:
                for i in range(taken):
                    desc = xsk_ring_cons__rx_desc(&self.rx, index + i)
                    xsk_ring_prod__fill_addr(&self.umem.fill, fill_index + i)[0] = desc.addr & mask
                xsk_ring_prod__submit(&self.umem.fill, taken)
            else:
                for i in range(taken):
                    desc = xsk_ring_cons__rx_desc(&self.rx, index + i)
                    pool_give(&self.umem.pool, desc.addr & mask)
        if taken < count:
            xsk_ring_cons__cancel(&self.rx, count - taken)
        if taken:
            xsk_ring_cons__release(&self.rx, taken)
        return packets

    # -- sending, for tool authors and the lab ---------------------------------------

    cdef int _reap(self) except -1:
        cdef uint32_t index = 0, count, i
        count = xsk_ring_cons__peek(&self.umem.completion, self.umem.completion_size, &index)
        for i in range(count):
            pool_give(&self.umem.pool,
                      xsk_ring_cons__comp_addr(&self.umem.completion, index + i)[0]
                      & ~(<uint64_t>self.umem.frame_size - 1))
        if count:
            xsk_ring_cons__release(&self.umem.completion, count)
            self.tx_outstanding -= count
        return <int>count

    def send(self, packets, double timeout_s=5.0):
        """Send packets (an iterable of bytes) in order; returns how many completed.

        A packet longer than a frame needs `multi_buffer`.  Returns when the kernel has
        completed them all, or raises KernelError after `timeout_s` without progress.
        """
        self._check_open()
        if self.tx_size == 0:
            raise ValueError("the socket was made without a TX ring")
        self.hold("send()")  # `packets` may be anything, and lets other threads run
        try:
            return self._send(packets, timeout_s)
        finally:
            self.release("send()")

    cdef _send(self, packets, double timeout_s):
        cdef bytes packet
        sent = 0
        deadline = time.monotonic() + timeout_s
        for packet in packets:
            while not self._queue(packet):
                if self._push() > 0:
                    deadline = time.monotonic() + timeout_s
                elif time.monotonic() > deadline:
                    raise KernelError("sendto(TX)", _errno.ETIMEDOUT, "the device takes no packets")
            sent += 1
        while self.tx_outstanding:
            if self._push() > 0:
                deadline = time.monotonic() + timeout_s
            elif time.monotonic() > deadline:
                raise KernelError("sendto(TX)", _errno.ETIMEDOUT, "completions are missing")
        return sent

    def wake(self):
        """Kick the TX ring once; 0, or the errno of a failure that does not pass.

        Drivers that want an XDP program for zero-copy say so here: ENXIO or EINVAL.
        """
        self._check_open()
        return -kick_tx(self.fd)

    def _push(self):
        cdef int err = kick_tx(self.fd)
        if err:
            raise KernelError(f"sendto({self.interface} queue {self.queue})", err,
                              f"`ip link set {self.interface} up`")
        return self._reap()

    def _queue(self, bytes packet not None):
        cdef uint32_t size = <uint32_t>len(packet), part, offset = 0, index = 0, i
        cdef uint32_t room = self.umem.frame_size - self.umem.tx_metadata_len
        cdef uint32_t frames = (size + room - 1) // room
        cdef const char *data = packet
        cdef uint64_t addr = 0
        cdef xdp_desc *desc
        if size == 0:
            raise UsageError("a packet of 0 bytes can't be sent")
        if frames > 1 and not self.multi_buffer:
            raise UsageError(f"a packet of {size} bytes needs multi_buffer=True")
        if self.umem.pool.free_count < frames:
            return False
        if xsk_ring_prod__reserve(&self.tx, frames, &index) != frames:
            return False
        for i in range(frames):
            part = min(room, size - offset)
            pool_take(&self.umem.pool, &addr)
            addr += self.umem.tx_metadata_len
            memcpy(self.umem.area + addr, data + offset, part)
            desc = xsk_ring_prod__tx_desc(&self.tx, index + i)
            desc.addr = addr
            desc.len = part
            desc.options = XDP_PKT_CONTD if i + 1 < frames else 0
            offset += part
        xsk_ring_prod__submit(&self.tx, frames)
        self.tx_outstanding += frames
        return True

    def _check_open(self):
        if self.fd < 0:
            raise ValueError("the socket is closed")

    def close(self):
        """Unbind and close; safe to call again.  ValueError while a loop holds it."""
        self.require_unheld(self.name or "the socket")
        if self.handle != NULL:
            xsk_socket__delete(self.handle)
            self.handle = NULL
        self.fd = -1
        self._let_umem_go()

    cdef _let_umem_go(self):
        if self.holds_umem:
            self.holds_umem = False
            self.umem.release(self.name)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __dealloc__(self):
        if self.handle != NULL:
            xsk_socket__delete(self.handle)
        self._let_umem_go()
