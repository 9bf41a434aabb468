"""A descriptor ring and a frame pool on plain memory, for tests and benchmarks.

Purpose: lay a producer and a consumer over the same memory, as user space and kernel
have them, and expose the very functions that the recorder calls: libxdp's inline ones
(xdp/xsk.h) and those of `_umem.pxd`.  No socket, no privileges.
Owner: the thread that made it; both ends are driven from there, one step at a time or,
for benchmarks, many without the GIL.
Frees: when collected.

Source relied on: Documentation/networking/af_xdp.rst, section "Rings";
include/uapi/linux/if_xdp.h.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from xdpcap.rings.umem cimport FramePool, pool_give, pool_take
from xdpcap.clib.libxdp cimport (
    XDP_RING_NEED_WAKEUP,
    xdp_desc,
    xsk_ring_cons,
    xsk_ring_cons__cancel,
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

cdef enum:
    FRAME_BYTES = 2048


cdef uint64_t _carry_addresses(xsk_ring_prod *prod, xsk_ring_cons *cons, uint64_t count,
                               uint32_t batch) noexcept nogil:
    cdef uint64_t done = 0, total = 0
    cdef uint32_t index = 0, i
    while done < count and xsk_ring_prod__reserve(prod, batch, &index) == batch:
        for i in range(batch):
            xsk_ring_prod__fill_addr(prod, index + i)[0] = (done + i) * FRAME_BYTES
        xsk_ring_prod__submit(prod, batch)
        if xsk_ring_cons__peek(cons, batch, &index) != batch:
            break
        for i in range(batch):
            total += xsk_ring_cons__comp_addr(cons, index + i)[0]
        xsk_ring_cons__release(cons, batch)
        done += batch
    return total


cdef uint64_t _carry_descriptors(xsk_ring_prod *prod, xsk_ring_cons *cons, uint64_t count,
                                 uint32_t batch) noexcept nogil:
    cdef uint64_t done = 0, total = 0
    cdef uint32_t index = 0, i
    cdef xdp_desc *to
    cdef const xdp_desc *desc
    while done < count and xsk_ring_prod__reserve(prod, batch, &index) == batch:
        for i in range(batch):
            to = xsk_ring_prod__tx_desc(prod, index + i)
            to.addr = (done + i) * FRAME_BYTES
            to.len = FRAME_BYTES
            to.options = 0
        xsk_ring_prod__submit(prod, batch)
        if xsk_ring_cons__peek(cons, batch, &index) != batch:
            break
        for i in range(batch):
            desc = xsk_ring_cons__rx_desc(cons, index + i)
            total += desc.addr + desc.len + desc.options
        xsk_ring_cons__release(cons, batch)
        done += batch
    return total


cdef uint64_t _turn_over(FramePool *pool, uint64_t *taken, uint64_t count,
                         uint32_t batch) noexcept nogil:
    cdef uint64_t done = 0
    cdef uint32_t i, out
    while done < count:
        out = 0
        while out < batch and pool_take(pool, &taken[out]):
            out += 1
        for i in range(out):
            pool_give(pool, taken[i])
        done += out
        if out < batch:
            break
    return done


cdef _check_portions(uint64_t count, uint32_t batch, uint32_t most):
    if not 1 <= batch <= most or count % batch:
        raise ValueError(f"{count} in portions of {batch}; whole portions of 1 to {most} are needed")


cdef class PlainRing:
    """A ring of `size` (a power of two) entries whose indices begin at `start_index`.

    Indices are 32 bits and wrap; a slot is an index modulo `size`.  Entries are addresses,
    as in the fill and completion rings; only carry_descriptors() has it hold descriptors,
    as the RX and TX rings do.
    """

    cdef uint32_t producer_word
    cdef uint32_t consumer_word
    cdef uint32_t flags_word
    cdef void *slots
    cdef xsk_ring_prod prod
    cdef xsk_ring_cons cons
    cdef readonly uint32_t size

    def __cinit__(self, uint32_t size, uint32_t start_index=0):
        if size == 0 or size & (size - 1):
            raise ValueError(f"ring size {size} is not a power of two")
        self.slots = calloc(size, sizeof(xdp_desc))
        if self.slots == NULL:
            raise MemoryError
        self.size = size
        self.producer_word = self.consumer_word = start_index
        # As libxdp sets them up (xsk_create_umem_rings()): a producer's idea of the
        # consumer is `size` ahead, which saves an addition in the fast path.
        self.prod.cached_prod = start_index
        self.prod.cached_cons = start_index + size
        self.cons.cached_prod = self.cons.cached_cons = start_index
        self.prod.size = self.cons.size = size
        self.prod.mask = self.cons.mask = size - 1
        self.prod.producer = self.cons.producer = &self.producer_word
        self.prod.consumer = self.cons.consumer = &self.consumer_word
        self.prod.flags = self.cons.flags = &self.flags_word
        self.prod.ring = self.cons.ring = self.slots

    def reserve(self, uint32_t count):
        """The index of the first of `count` entries to write, or None: all or nothing."""
        cdef uint32_t index = 0
        if xsk_ring_prod__reserve(&self.prod, count, &index) != count:
            return None
        return index

    def put(self, uint32_t index, uint64_t addr):
        """Write a reserved entry."""
        xsk_ring_prod__fill_addr(&self.prod, index)[0] = addr

    def submit(self, uint32_t count):
        """Let the consumer see `count` reserved entries."""
        xsk_ring_prod__submit(&self.prod, count)

    def peek(self, uint32_t count):
        """(index, how many) of entries to read, at most `count`."""
        cdef uint32_t index = 0
        cdef uint32_t found = xsk_ring_cons__peek(&self.cons, count, &index)
        return index, found

    def get(self, uint32_t index):
        """Read a peeked entry."""
        return xsk_ring_cons__comp_addr(&self.cons, index)[0]

    def cancel(self, uint32_t count):
        """Un-peek the last `count` entries."""
        xsk_ring_cons__cancel(&self.cons, count)

    def release(self, uint32_t count):
        """Give `count` peeked entries back to the producer."""
        xsk_ring_cons__release(&self.cons, count)

    def carry_addresses(self, uint64_t count, uint32_t batch):
        """Pass `count` addresses through the empty ring, `batch` at a time; the sum as read.

        They are multiples of FRAME_BYTES from 0 on.  Each batch is reserved, written and
        submitted, then peeked, read and released.
        """
        cdef uint64_t total
        self._check(count, batch)
        with nogil:
            total = _carry_addresses(&self.prod, &self.cons, count, batch)
        return total

    def carry_descriptors(self, uint64_t count, uint32_t batch):
        """The same with descriptors of whole frames; the sum of all their fields as read."""
        cdef uint64_t total
        self._check(count, batch)
        with nogil:
            total = _carry_descriptors(&self.prod, &self.cons, count, batch)
        return total

    cdef _check(self, uint64_t count, uint32_t batch):
        _check_portions(count, batch, self.size)
        # Nothing reserved and not submitted, nothing peeked and not released either.
        if self.prod.cached_prod != self.consumer_word or self.cons.cached_cons != self.prod.cached_prod:
            raise ValueError("the ring is not empty")

    @property
    def entries(self):
        """Entries submitted and not yet released."""
        return <uint32_t>(self.producer_word - self.consumer_word)

    @property
    def indices(self):
        """The shared producer and consumer indices."""
        return self.producer_word, self.consumer_word

    @property
    def needs_wakeup(self):
        """Whether the kernel's side has asked the producer to be woken."""
        return bool(xsk_ring_prod__needs_wakeup(&self.prod))

    @needs_wakeup.setter
    def needs_wakeup(self, bint value):
        self.flags_word = <uint32_t>XDP_RING_NEED_WAKEUP if value else 0

    def __dealloc__(self):
        free(self.slots)


cdef class PlainPool:
    """The frame pool of a UMEM of `frame_count` frames, without the UMEM; begins empty."""

    cdef FramePool pool
    cdef uint64_t *taken        # what turn_over() has out of the pool

    def __cinit__(self, uint32_t frame_count):
        self.pool.addrs = <uint64_t *>calloc(frame_count, sizeof(uint64_t))
        self.taken = <uint64_t *>calloc(frame_count, sizeof(uint64_t))
        if self.pool.addrs == NULL or self.taken == NULL:
            raise MemoryError
        self.pool.frame_count = frame_count

    def take(self):
        """A free frame's address, or None."""
        cdef uint64_t addr = 0
        return addr if pool_take(&self.pool, &addr) else None

    def give(self, uint64_t addr):
        """Put a frame back.  ValueError beyond the pool's frames, which would be a bug."""
        if self.pool.free_count == self.pool.frame_count:
            raise ValueError("the pool has all its frames")
        pool_give(&self.pool, addr)

    def turn_over(self, uint64_t count, uint32_t batch):
        """Take `count` frames and give them back, `batch` at a time; how many there were."""
        cdef uint64_t done
        _check_portions(count, batch, self.pool.frame_count)
        with nogil:
            done = _turn_over(&self.pool, self.taken, count, batch)
        return done

    @property
    def free_count(self):
        """Frames in the pool."""
        return self.pool.free_count

    def __dealloc__(self):
        free(self.pool.addrs)
        free(self.taken)
