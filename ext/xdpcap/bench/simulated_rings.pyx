"""The recorder's own loop on rings in plain memory, into which packets are made.

Purpose: find out how fast a machine and its disk record when packets cost nothing to
come by.  The loop, the encoder and the sink are the recorder's; what stands in for the
driver and the program takes frames off the fill ring, marks them with metadata, and puts
them into the RX ring, a sixteenth of it at a time, as many as the loop aims to find
there.  No socket, no privileges.
Owner: one thread runs it; other threads may read the counters and call request_stop().
Frees: close(); the FileSink is the caller's.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from xdpcap.clib.atomic cimport __ATOMIC_RELAXED, atomic_store_int
from xdpcap.clib.posix cimport (
    CLOCK_MONOTONIC,
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
    mmap,
    munmap,
)
from xdpcap.savefile.encode cimport FORMAT_PCAP, FORMAT_PCAPNG, init_encoder
from xdpcap.savefile.sink cimport FileSink
from xdpcap.record.packet_meta cimport META_BYTES
from xdpcap.clib.abi cimport XDPCAP_META_MAGIC, XDPCAP_META_TS, xdpcap_meta
from xdpcap.record.loop cimport *
from xdpcap.host.clocks cimport clock_ns
from xdpcap.record.waiting cimport utc_offset
from xdpcap.clib.libxdp cimport XDP_PKT_CONTD, xdp_desc, xsk_ring_cons, xsk_ring_prod

from xdpcap.errors import UsageError


cdef extern from "<endian.h>" nogil:
    uint64_t htobe64(uint64_t value)

cdef enum:
    HEADROOM_BYTES = 256        # before a packet; XDP_PACKET_HEADROOM
    HEADER_BYTES = 42           # of a template; the packet's number comes behind it
    RING_PARTS = 16             # see _pause() in record/waiting.pyx


# One size of the mix.
cdef struct Template:
    uint32_t size
    unsigned char[HEADER_BYTES] header


# What stands in for driver and program.
cdef struct Supply:
    xsk_ring_cons *rx
    xsk_ring_prod *fill
    unsigned char *area
    uint32_t room               # bytes of a packet that a frame takes
    Template *templates         # in the order in which packets come
    uint32_t template_count
    uint32_t next               # the next packet's template
    uint64_t number             # of the next packet


cdef void _dress(const Supply *s, const Template *t, uint64_t addr, uint64_t ts_ns) noexcept nogil:
    """What driver and program write with a packet: its first bytes, and the metadata."""
    cdef xdpcap_meta *meta = <xdpcap_meta *>(s.area + addr - META_BYTES)
    cdef uint64_t number = htobe64(s.number)
    memcpy(s.area + addr, t.header, HEADER_BYTES)
    memcpy(s.area + addr + HEADER_BYTES, &number, 8)
    meta.ts_ns = ts_ns
    meta.flags = XDPCAP_META_TS
    meta.magic = XDPCAP_META_MAGIC


cdef void _refill(void *source) noexcept nogil:
    """Put packets into the RX ring, as far as a sixteenth of it and free frames go."""
    cdef Supply *s = <Supply *>source
    cdef uint32_t producer = s.rx.producer[0], consumer = s.fill.consumer[0]
    cdef uint32_t end = producer + s.rx.size // RING_PARTS
    cdef uint64_t ts_ns = clock_ns(CLOCK_MONOTONIC)
    cdef const Template *t
    cdef xdp_desc *desc
    cdef uint32_t left, frames
    while True:
        t = &s.templates[s.next]
        frames = (t.size + s.room - 1) // s.room
        if <int>(end - producer) < <int>frames or s.fill.producer[0] - consumer < frames:
            break
        left = t.size
        while left:
            desc = &(<xdp_desc *>s.rx.ring)[producer & s.rx.mask]
            desc.addr = (<uint64_t *>s.fill.ring)[consumer & s.fill.mask] + HEADROOM_BYTES
            if left == t.size:
                _dress(s, t, desc.addr, ts_ns)
            desc.len = min(left, s.room)
            left -= desc.len
            desc.options = XDP_PKT_CONTD if left else 0
            producer += 1
            consumer += 1
        s.number += 1
        s.next += 1
        if s.next == s.template_count:
            s.next = 0
    s.rx.producer[0] = producer
    s.fill.consumer[0] = consumer


NAME = "the Simulation"


@cython.no_gc_clear
cdef class Simulation:
    """Records made packets into a FileSink, as `Capture` does those of a queue.

    Parameters
    ----------
    sink : FileSink
        Where the records go.
    templates : sequence of (size, header)
        The packets in the order in which they come, again and again: bytes of a packet,
        50 at least, and its first 42, behind which its number is put, 64 bits, big-endian.
    format, queue, batch, flush_interval_s
        As for `Capture`.
    ring_size, frame_size : int
        Descriptors of a ring, a power of two, and bytes of a frame; there are as many frames
        as descriptors.
    """

    # The blocks are the sink's: the loop holds it until close().
    cdef readonly FileSink sink
    cdef bint holds_sink
    cdef bint running
    cdef bint closed
    cdef CaptureState c
    cdef Supply supply
    cdef xsk_ring_cons rx
    cdef xsk_ring_prod fill
    cdef uint32_t[2] rx_words
    cdef uint32_t[2] fill_words
    cdef uint64_t area_bytes

    def __cinit__(self, FileSink sink not None, templates, *, str format="pcapng",
                  uint32_t queue=0, uint32_t batch=256, double flush_interval_s=1.0,
                  uint32_t ring_size=32768, uint32_t frame_size=2048):
        cdef uint32_t number
        self.c.wake_fd = self.c.fd = -1
        for size, least in ((ring_size, RING_PARTS), (frame_size, 2 * HEADROOM_BYTES)):
            if size < least or size & (size - 1):
                raise UsageError(f"a size of {size} in a simulation is not a power of two from {least} on")
        self.sink = sink
        sink._check_open()
        sink.hold(NAME)
        self.holds_sink = True
        self._make_rings(ring_size, frame_size)
        self._copy_templates(templates)
        self.c.rx = self.supply.rx = &self.rx
        self.c.fill = self.supply.fill = &self.fill
        self.c.frame_mask = ~(<uint64_t>frame_size - 1)
        self.c.refill, self.c.source = _refill, &self.supply
        self.c.batch = min(batch, ring_size)
        self.c.sink = &sink.s
        sink.s.stop_flag = &self.c.stop
        init_encoder(&self.c.encoder, FORMAT_PCAP if format == "pcap" else FORMAT_PCAPNG,
                     0, 0, queue)
        self.c.clock = CLOCK_MONOTONIC
        self.c.utc_offset_ns = self.c.clock_offset_ns = utc_offset(CLOCK_MONOTONIC)
        self.c.flush_interval_ns = <uint64_t>(flush_interval_s * 1e9)
        # All frames are the driver's at first.
        for number in range(ring_size):
            (<uint64_t *>self.fill.ring)[number] = <uint64_t>number * frame_size
        self.fill_words[0] = self.fill.cached_prod = ring_size

    def _make_rings(self, uint32_t size, uint32_t frame_size):
        """Rings and frames in plain memory; the kernel's side of them is `_refill`."""
        cdef void *area
        self.area_bytes = <uint64_t>size * frame_size
        area = mmap(NULL, self.area_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                    -1, 0)
        if area == MAP_FAILED:
            self.area_bytes = 0
            raise MemoryError
        self.c.area = self.supply.area = <unsigned char *>area
        # Something else than the page of zeros that stands for all untouched ones.
        memset(area, 0x55, self.area_bytes)
        self.supply.room = frame_size - HEADROOM_BYTES
        self.rx.ring = calloc(size, sizeof(xdp_desc))
        self.fill.ring = calloc(size, sizeof(uint64_t))
        if self.rx.ring == NULL or self.fill.ring == NULL:
            raise MemoryError
        self.rx.size = self.fill.size = size
        self.rx.mask = self.fill.mask = size - 1
        self.rx.producer, self.rx.consumer = &self.rx_words[0], &self.rx_words[1]
        self.fill.producer, self.fill.consumer = &self.fill_words[0], &self.fill_words[1]
        # As libxdp keeps a producer's idea of the consumer: `size` ahead.
        self.fill.cached_cons = size

    def _copy_templates(self, templates):
        cdef Template *t
        cdef uint32_t longest = self.supply.room * (self.rx.size // RING_PARTS)
        listed = list(templates)
        if not listed:
            raise UsageError("no packets to simulate; name their sizes")
        self.supply.templates = <Template *>calloc(len(listed), sizeof(Template))
        if self.supply.templates == NULL:
            raise MemoryError
        for size, header in listed:
            if not HEADER_BYTES + 8 <= size <= min(longest, 65535) or len(header) != HEADER_BYTES:
                raise UsageError(f"a simulated packet of {size} bytes; 50 to "
                                 f"{min(longest, 65535)} are possible in so small a ring")
            t = &self.supply.templates[self.supply.template_count]
            t.size = size
            memcpy(t.header, <const char *>header, HEADER_BYTES)
            self.supply.template_count += 1

    def run(self):
        """Record until there is something to decide; returns one of `Capture.run()`'s reasons."""
        cdef Reason reason
        if self.closed or self.running:
            raise ValueError(f"{NAME} is {'closed' if self.closed else 'running in another thread'}")
        self.running = True
        with nogil:
            reason = run_record(&self.c)
        self.running = False
        return <int>reason

    def request_stop(self):
        """Make run() return once the ring is empty; from any thread."""
        atomic_store_int(&self.c.stop, 1, __ATOMIC_RELAXED)

    @property
    def made(self):
        """Packets put into the ring."""
        return self.supply.number

    @property
    def received(self):
        """Packets taken off it."""
        return self.c.received

    @property
    def received_bytes(self):
        """Their bytes."""
        return self.c.received_bytes

    @property
    def no_meta(self):
        """Packets without metadata: none."""
        return self.c.no_meta

    def close(self):
        """Free rings and frames; safe to call again.  ValueError while it runs."""
        if self.running:
            raise ValueError(f"{NAME} is running; request_stop() and wait for its end first")
        self._free()

    cdef _free(self):
        self.closed = True
        if self.holds_sink:
            self.holds_sink = False
            if self.sink.s.stop_flag == &self.c.stop:
                self.sink.s.stop_flag = NULL
            self.sink.release(NAME)
        if self.area_bytes:
            munmap(self.c.area, self.area_bytes)
            self.area_bytes = 0
        free(self.rx.ring)
        free(self.fill.ring)
        free(self.supply.templates)
        self.rx.ring = self.fill.ring = NULL
        self.supply.templates = NULL

    def __dealloc__(self):
        self._free()
