"""The rings by themselves: take, send or forward packets as fast as they go, and count.

Purpose: measure what a NIC, a driver and a ring set-up can do before anything is written
or read: rx-drop takes packets and gives their frames back, tx-only sends one frame over and
over, l2fwd sends what comes back out with its MAC addresses swapped.
Owner: one worker thread; other threads may read the counters and call request_stop().
Frees: nothing; the Xsk and its Umem are the caller's.

Source relied on: Documentation/networking/af_xdp.rst; net/xdp/xsk.c.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from xdpcap.clib.atomic cimport __ATOMIC_RELAXED, atomic_load_int, atomic_store_int
from xdpcap.clib.posix cimport MSG_DONTWAIT, POLLIN, nanosleep, poll, pollfd, recvfrom, timespec
from xdpcap.rings.socket_calls cimport kick_tx, raise_tx_budget
from xdpcap.rings.umem cimport pool_take
from xdpcap.rings.xsk cimport Xsk
from xdpcap.clib.libxdp cimport (
    XDP_PKT_CONTD,
    xdp_desc,
    xsk_prod_nb_free,
    xsk_ring_cons,
    xsk_ring_cons__comp_addr,
    xsk_ring_cons__peek,
    xsk_ring_cons__release,
    xsk_ring_cons__rx_desc,
    xsk_ring_prod,
    xsk_ring_prod__fill_addr,
    xsk_ring_prod__needs_wakeup,
    xsk_ring_prod__reserve,
    xsk_ring_prod__submit,
    xsk_ring_prod__tx_desc,
)

from xdpcap.errors import UsageError


cdef enum:
    # So that a stop is seen on an idle ring.
    POLL_MS = 50
    # Bounds of the pause between two looks at a busy ring, as the recorder's (_waiting).
    PAUSE_MIN_NS = 20000
    PAUSE_MAX_NS = 1000000
    MAC_BYTES = 6
    ETHERNET_HEADER = 14

cdef enum Mode:
    RX_DROP = 0
    TX_ONLY = 1
    L2FWD = 2

MODES = {"rx-drop": RX_DROP, "tx-only": TX_ONLY, "l2fwd": L2FWD}


cdef struct RingState:
    xsk_ring_cons *rx
    xsk_ring_prod *fill
    xsk_ring_prod *tx
    xsk_ring_cons *completion
    unsigned char *area
    uint64_t frame_mask         # clears an offset within a frame
    uint64_t frame_count
    uint64_t frame_size
    uint32_t length             # of the frame that tx-only sends
    uint32_t batch
    int fd
    bint busy_poll
    bint pauses                 # between looks at a busy ring, instead of being woken
    uint64_t pause_ns
    uint64_t taken              # since the last pause
    bint kick_always            # copy mode, or without need_wakeup
    int stop
    int error                   # errno of a system call that failed for good
    # Counters: written by the worker only.
    uint64_t packets            # taken, completed, or taken and sent back
    uint64_t bytes
    uint64_t descriptors        # that went through a ring: of long packets several
    uint64_t syscalls           # poll(), recvfrom() and sendto()
    uint64_t looks              # at the ring that packets come from or go to
    uint64_t empty_looks        # that found nothing, or no room
    uint64_t occupancy_sum      # descriptors waiting, over all looks
    uint64_t occupancy_most
    uint64_t out                # frames on the TX ring or in the device


cdef inline void _saw(RingState *s, uint32_t occupancy) noexcept nogil:
    s.looks += 1
    s.occupancy_sum += occupancy
    if occupancy > s.occupancy_most:
        s.occupancy_most = occupancy


cdef bint _kick_tx(RingState *s) noexcept nogil:
    """Tell the kernel of new descriptors; False when it can't be done any more."""
    if not (s.kick_always or xsk_ring_prod__needs_wakeup(s.tx)):
        return True
    s.syscalls += 1
    s.error = -kick_tx(s.fd)
    return s.error == 0


cdef void _pause(RingState *s) noexcept nogil:
    """Sleep as the recorder does, so that about a sixteenth of the ring waits at each look."""
    cdef timespec ts
    cdef uint32_t target = s.rx.size // 16
    if s.taken > target:
        s.pause_ns = s.pause_ns // 2
    elif s.taken < target // 2:
        s.pause_ns += s.pause_ns // 4
    s.pause_ns = min(max(s.pause_ns, <uint64_t>PAUSE_MIN_NS), <uint64_t>PAUSE_MAX_NS)
    if s.taken > s.rx.size // 2:
        return
    ts.tv_sec = 0
    ts.tv_nsec = <long>s.pause_ns
    s.syscalls += 1
    nanosleep(&ts, NULL)


cdef void _wait_rx(RingState *s) noexcept nogil:
    """The ring is empty: drive the NAPI when busy polling, else sleep."""
    cdef pollfd waiting
    if s.busy_poll or xsk_ring_prod__needs_wakeup(s.fill):
        s.syscalls += 1
        recvfrom(s.fd, NULL, 0, MSG_DONTWAIT, NULL, NULL)
    if s.busy_poll:
        return
    if s.pauses and s.taken:
        _pause(s)
        s.taken = 0
        return
    waiting.fd = s.fd
    waiting.events = POLLIN
    s.syscalls += 1
    poll(&waiting, 1, POLL_MS)


cdef inline uint32_t _peek_rx(RingState *s, uint32_t *index) noexcept nogil:
    """Take up to a batch; what waits in the ring is counted as its occupancy."""
    cdef uint32_t count
    _saw(s, s.rx.producer[0] - s.rx.consumer[0])
    count = xsk_ring_cons__peek(s.rx, s.batch, index)
    s.taken += count
    if count == 0:
        s.empty_looks += 1
    return count


cdef inline void _count(RingState *s, const xdp_desc *desc) noexcept nogil:
    s.descriptors += 1
    s.bytes += desc.len
    if not desc.options & XDP_PKT_CONTD:
        s.packets += 1


# ---------------------------------------------------------------- rx-drop

cdef void _rx_drop(RingState *s) noexcept nogil:
    cdef uint32_t index = 0, fill_index = 0, count, i
    cdef const xdp_desc *desc
    while not atomic_load_int(&s.stop, __ATOMIC_RELAXED):
        count = _peek_rx(s, &index)
        if count == 0:
            _wait_rx(s)
            continue
        # The fill ring has room for every frame of the UMEM.
        xsk_ring_prod__reserve(s.fill, count, &fill_index)
        for i in range(count):
            desc = xsk_ring_cons__rx_desc(s.rx, index + i)
            _count(s, desc)
            xsk_ring_prod__fill_addr(s.fill, fill_index + i)[0] = desc.addr & s.frame_mask
        xsk_ring_prod__submit(s.fill, count)
        xsk_ring_cons__release(s.rx, count)
        if s.pauses and count < s.batch:
            _wait_rx(s)


# ---------------------------------------------------------------- tx-only

cdef uint32_t _completed(RingState *s, bint to_fill) noexcept nogil:
    """Reap completions; with `to_fill` their frames go to the fill ring."""
    cdef uint32_t index = 0, fill_index = 0, count, i
    count = xsk_ring_cons__peek(s.completion, s.completion.size, &index)
    if count == 0:
        return 0
    if to_fill:
        xsk_ring_prod__reserve(s.fill, count, &fill_index)
        for i in range(count):
            xsk_ring_prod__fill_addr(s.fill, fill_index + i)[0] = (
                xsk_ring_cons__comp_addr(s.completion, index + i)[0] & s.frame_mask)
        xsk_ring_prod__submit(s.fill, count)
    xsk_ring_cons__release(s.completion, count)
    s.out -= count
    return count


cdef void _tx_only(RingState *s) noexcept nogil:
    cdef uint32_t index = 0, count, i
    cdef uint64_t frame = 0
    cdef xdp_desc *desc
    while not atomic_load_int(&s.stop, __ATOMIC_RELAXED) and s.error == 0:
        count = xsk_prod_nb_free(s.tx, s.batch)
        _saw(s, s.tx.size - count if count < s.tx.size else 0)
        count = min(count, s.batch)
        if count and xsk_ring_prod__reserve(s.tx, count, &index) == count:
            for i in range(count):
                desc = xsk_ring_prod__tx_desc(s.tx, index + i)
                desc.addr = frame * s.frame_size
                desc.len = s.length
                desc.options = 0
                frame = frame + 1 if frame + 1 < s.frame_count else 0
            xsk_ring_prod__submit(s.tx, count)
            s.out += count
        else:
            s.empty_looks += 1
        _kick_tx(s)
        count = _completed(s, False)
        s.packets += count
        s.descriptors += count
        s.bytes += <uint64_t>count * s.length


# ---------------------------------------------------------------- l2fwd

cdef inline void _swap_macs(unsigned char *frame) noexcept nogil:
    cdef unsigned char[MAC_BYTES] kept
    memcpy(kept, frame, MAC_BYTES)
    memcpy(frame, frame + MAC_BYTES, MAC_BYTES)
    memcpy(frame + MAC_BYTES, kept, MAC_BYTES)


cdef bint _room_to_send(RingState *s, uint32_t count, uint32_t *index) noexcept nogil:
    """Reserve `count` TX descriptors, waiting for the device; False on stop or failure."""
    while xsk_ring_prod__reserve(s.tx, count, index) != count:
        if atomic_load_int(&s.stop, __ATOMIC_RELAXED) or not _kick_tx(s):
            return False
        _completed(s, True)
    return True


cdef void _l2fwd(RingState *s) noexcept nogil:
    cdef uint32_t index = 0, tx_index = 0, count, i
    cdef bint begins = True
    cdef const xdp_desc *came
    cdef xdp_desc *desc
    while not atomic_load_int(&s.stop, __ATOMIC_RELAXED) and s.error == 0:
        if s.out:
            _kick_tx(s)
            _completed(s, True)
        count = _peek_rx(s, &index)
        if count == 0:
            if s.out == 0:
                _wait_rx(s)
            continue
        if not _room_to_send(s, count, &tx_index):
            return
        for i in range(count):
            came = xsk_ring_cons__rx_desc(s.rx, index + i)
            _count(s, came)
            if begins and came.len >= ETHERNET_HEADER:
                _swap_macs(s.area + came.addr)
            begins = not came.options & XDP_PKT_CONTD
            desc = xsk_ring_prod__tx_desc(s.tx, tx_index + i)
            desc.addr = came.addr
            desc.len = came.len
            desc.options = came.options & XDP_PKT_CONTD
        xsk_ring_prod__submit(s.tx, count)
        xsk_ring_cons__release(s.rx, count)
        s.out += count


@cython.no_gc_clear
cdef class RingLoop:
    """One queue's loop.

    Parameters
    ----------
    xsk : Xsk
        For rx-drop with an RX ring, for tx-only with a TX ring, for l2fwd with both.  With
        an RX ring its fill ring must have room for every frame of the UMEM and hold them.
    mode : str
        "rx-drop", "tx-only" or "l2fwd".
    batch : int
        Descriptors taken or posted at a time, at most.
    busy_poll : bool
        Drive the NAPI instead of sleeping; `Xsk.set_busy_poll()` comes before.
    pauses : bool
        Sleep 20 us to 1 ms between looks at a busy ring, as the recorder does, instead of
        being woken by poll() each time.
    frame : bytes
        What tx-only sends: 14 bytes to a frame of the UMEM.
    """

    cdef readonly Xsk xsk
    cdef RingState s
    cdef Mode mode
    cdef str name               # for people
    cdef bint holds_xsk
    cdef bint running

    def __cinit__(self, Xsk xsk not None, str mode not None, *, uint32_t batch=64,
                  bint busy_poll=False, bint pauses=True, bytes frame=None):
        self.mode = MODES[mode]
        if self.mode != TX_ONLY and (
                xsk.rx_size == 0 or xsk.umem.fill_size < xsk.umem.frame_count):
            raise ValueError("an RX ring, and a fill ring for all frames, are needed")
        if self.mode != RX_DROP and xsk.tx_size == 0:
            raise ValueError("a TX ring is needed")
        if self.mode == L2FWD and xsk.tx_size < batch:
            raise ValueError("the TX ring must have room for a batch")
        memset(&self.s, 0, sizeof(self.s))
        xsk._check_open()
        self.xsk = xsk
        self.name = f"the {mode} loop of {xsk.interface} queue {xsk.queue}"
        xsk.hold(self.name)
        self.holds_xsk = True
        self.s.rx = &xsk.rx
        self.s.tx = &xsk.tx
        self.s.fill = &xsk.umem.fill
        self.s.completion = &xsk.umem.completion
        self.s.area = xsk.umem.area
        self.s.frame_size = xsk.umem.frame_size
        self.s.frame_count = xsk.umem.frame_count
        self.s.frame_mask = ~(<uint64_t>xsk.umem.frame_size - 1)
        self.s.batch = batch
        self.s.fd = xsk.fd
        if self.mode != RX_DROP:
            raise_tx_budget(xsk.fd, batch)
        self.s.busy_poll = busy_poll
        self.s.pauses = pauses
        self.s.pause_ns = PAUSE_MIN_NS
        self.s.kick_always = not xsk.zero_copy or not xsk.need_wakeup
        if self.mode == TX_ONLY:
            self._lay_out(frame)

    cdef _lay_out(self, bytes frame):
        """The frame to send into every frame of the UMEM."""
        cdef uint64_t addr = 0
        if frame is None or not ETHERNET_HEADER <= len(frame) <= self.s.frame_size:
            raise UsageError(
                f"a frame to send has {ETHERNET_HEADER} to {self.s.frame_size} bytes")
        self.s.length = <uint32_t>len(frame)
        while pool_take(&self.xsk.umem.pool, &addr):
            memcpy(self.s.area + addr, <const char *>frame, self.s.length)

    def run(self):
        """Until request_stop(); an errno when a system call failed for good, else 0."""
        if self.running or not self.holds_xsk:
            raise ValueError(
                f"{self.name} is {'running in another thread' if self.running else 'closed'}")
        self.running = True
        with nogil:
            if self.mode == RX_DROP:
                _rx_drop(&self.s)
            elif self.mode == TX_ONLY:
                _tx_only(&self.s)
            else:
                _l2fwd(&self.s)
        self.running = False
        return self.s.error

    def request_stop(self):
        """Make run() return within its longest wait of 50 ms; from any thread."""
        atomic_store_int(&self.s.stop, 1, __ATOMIC_RELAXED)

    @property
    def counters(self):
        """What was done so far, as a dict of numbers that only grow but `occupancy_most`."""
        return {
            "packets": self.s.packets,
            "bytes": self.s.bytes,
            "descriptors": self.s.descriptors,
            "syscalls": self.s.syscalls,
            "looks": self.s.looks,
            "empty_looks": self.s.empty_looks,
            "occupancy_sum": self.s.occupancy_sum,
            "occupancy_most": self.s.occupancy_most,
        }

    def close(self):
        """Let go of the socket; safe to call again.  ValueError while it runs."""
        if self.running:
            raise ValueError(f"{self.name} is running; request_stop() and wait for its end first")
        self._free()

    cdef _free(self):
        if self.holds_xsk:
            self.holds_xsk = False
            self.xsk.release(self.name)

    def __dealloc__(self):
        self._free()
