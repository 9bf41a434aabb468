"""The recorder's work on a packet, on plain memory, for benchmarks.

Purpose: run what the hot loop does with a packet (encode, copy, commit to the sink) in
a loop of its own, and a bare memcpy() of the same bytes beside it.  The inline
functions are those that the hot loop calls.  For all else a memcpy() of any portions.
For senders, a loop that does nothing but pace.  No socket, no privileges.
Owner: the thread that made it.
Frees: when collected.
"""

from libc.errno cimport ENOSPC
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from xdpcap.clib.posix cimport CLOCK_MONOTONIC
from xdpcap.host.clocks cimport clock_ns
from xdpcap.savefile.blocks cimport Sink, sink_commit, sink_failed, sink_room, sink_wait
from xdpcap.savefile.encode cimport (
    EPB_DROPCOUNT,
    FORMAT_PCAP,
    FORMAT_PCAPNG,
    Encoder,
    encode_head,
    encode_tail,
    init_encoder,
    record_bound,
)
from xdpcap.savefile.sink cimport FileSink

from xdpcap.errors import KernelError, UsageError

cdef enum:
    # Of frames, and of records: a block of the recorder's for files in memory.  Both stay in
    # a core's second-level cache.  Areas of 8 MiB did not, and whatever else used the
    # third level and the memory made a ratio to memcpy() anything from 0.7 to 1.
    AREA_BYTES = 262144
    CHUNK_BYTES = 2048      # frames begin at multiples of the UMEM's default frame size
    # A load waits for a store whose address has the same last 12 bits: areas a whole
    # number of pages apart made a copy half as slow again, and by chance more or less so.
    APART_BYTES = 2112
    TIME_STEP_NS = 500      # between two packets

# Of an area; no sum of sizes overflows.
MOST_BYTES = 1 << 46


cdef struct Bench:
    Encoder encoder
    unsigned char *source   # frames, one behind the other
    unsigned char *target   # where records go
    uint32_t size           # of a packet
    uint32_t stride         # from one frame to the next
    uint32_t record_size
    uint64_t frame          # offset of the next frame
    uint64_t out            # offset of the next record
    uint64_t last           # offset of the last record
    uint64_t ts_ns


cdef inline const unsigned char *_next_frame(Bench *b) noexcept nogil:
    cdef const unsigned char *frame = b.source + b.frame
    b.frame += b.stride
    if b.frame + b.stride > AREA_BYTES:
        b.frame = 0
    b.ts_ns += TIME_STEP_NS
    return frame


cdef inline unsigned char *_next_place(Bench *b) noexcept nogil:
    if b.out + b.record_size > AREA_BYTES:
        b.out = 0
    b.last = b.out
    b.out += b.record_size
    return b.target + b.last


cdef inline uint32_t _encode_one(Bench *b, unsigned char *out) noexcept nogil:
    cdef const unsigned char *frame = _next_frame(b)
    cdef uint32_t head = encode_head(&b.encoder, out, b.ts_ns, b.size, b.size)
    memcpy(out + head, frame, b.size)
    return encode_tail(&b.encoder, out, b.size)


cdef uint64_t _encode(Bench *b, uint64_t count) noexcept nogil:
    cdef uint64_t i, total = 0
    for i in range(count):
        total += _encode_one(b, _next_place(b))
    return total


cdef void _copy(Bench *b, uint64_t count) noexcept nogil:
    cdef uint64_t i
    cdef unsigned char *out
    for i in range(count):
        out = _next_place(b)
        memcpy(out, _next_frame(b), b.size)


cdef bint _record(Bench *b, Sink *s, uint64_t count) noexcept nogil:
    """Whether the sink took them all."""
    cdef uint64_t i, bound = record_bound(&b.encoder, b.size)
    s.now_ns = clock_ns(CLOCK_MONOTONIC)
    for i in range(count):
        while sink_room(s) < bound:
            sink_wait(s, 100000)
        if sink_failed(s):
            return False
        sink_commit(s, _encode_one(b, s.out), b.size)
    return True


def clock_times(uint64_t gap_ns, uint64_t count):
    """Watch the clock until each of `count` times, `gap_ns` apart; what it showed then.

    Returns 64-bit nanoseconds of CLOCK_MONOTONIC as bytes.  This is what pacing without
    sending reaches: whatever is late here, the machine has kept from running.
    """
    if count > MOST_BYTES // sizeof(uint64_t):
        raise MemoryError
    cdef bytearray times = bytearray(count * sizeof(uint64_t))
    cdef uint64_t *row = <uint64_t *><char *>times
    cdef uint64_t i, now, due
    with nogil:
        due = clock_ns(CLOCK_MONOTONIC) + gap_ns
        for i in range(count):
            now = clock_ns(CLOCK_MONOTONIC)
            while now < due:
                now = clock_ns(CLOCK_MONOTONIC)
            row[i] = now
            due += gap_ns
    return bytes(times)


cdef class Workbench:
    """Packets of `size` bytes (1 to 65535), recorded as "pcapng" or "pcap".

    Each call goes on where the last one ended, so that frames and records pass through
    256 KiB each and do not stay in the nearest cache.
    """

    cdef Bench b

    def __cinit__(self, str format not None, uint32_t size):
        cdef uint64_t offset
        if not 1 <= size <= 65535:
            raise UsageError(f"a packet of {size} bytes; 1 to 65535 are possible")
        init_encoder(&self.b.encoder, {"pcapng": FORMAT_PCAPNG, "pcap": FORMAT_PCAP}[format],
                     0, 0, 0)
        self.b.size = size
        self.b.stride = (size + CHUNK_BYTES - 1) // CHUNK_BYTES * CHUNK_BYTES
        self.b.record_size = <uint32_t>record_bound(&self.b.encoder, size)
        if format == "pcapng":
            # The bound has room for a count of lost packets; here none are lost.
            self.b.record_size -= EPB_DROPCOUNT
        self.b.source = <unsigned char *>malloc(AREA_BYTES)
        self.b.target = <unsigned char *>malloc(AREA_BYTES)
        if self.b.source == NULL or self.b.target == NULL:
            raise MemoryError
        for offset in range(0, AREA_BYTES, CHUNK_BYTES):
            memset(self.b.source + offset, <int>(offset // CHUNK_BYTES % 251), CHUNK_BYTES)
        memset(self.b.target, 0, AREA_BYTES)

    def encode(self, uint64_t count):
        """Encode `count` packets; returns the bytes of their records."""
        cdef uint64_t total
        with nogil:
            total = _encode(&self.b, count)
        return total

    def copy(self, uint64_t count):
        """Copy the bytes of `count` packets to where their records would be."""
        with nogil:
            _copy(&self.b, count)

    def record(self, FileSink sink not None, uint64_t count):
        """Encode `count` packets into a sink with an open file.  Raises KernelError."""
        cdef bint taken
        sink._check_open()
        sink.hold("a Workbench")
        with nogil:
            taken = _record(&self.b, &sink.s, count)
        sink.release("a Workbench")
        if not taken:
            raise KernelError("writing records", sink.current_error or ENOSPC)

    @property
    def ts_ns(self):
        """The time of the last packet."""
        return self.b.ts_ns

    @property
    def last_record(self):
        """What encode() or copy() has written last, as bytes."""
        return (<const char *>self.b.target + self.b.last)[:self.b.record_size]

    def __dealloc__(self):
        free(self.b.source)
        free(self.b.target)


cdef class Copier:
    """Two areas of `size` bytes, to copy from one to the other round and round.

    Each call goes on where the last one ended.
    """

    cdef unsigned char *source
    cdef unsigned char *target
    cdef readonly uint64_t size
    cdef uint64_t at            # where the next portion goes

    def __cinit__(self, uint64_t size):
        if size > MOST_BYTES:
            raise MemoryError
        self.source = <unsigned char *>malloc(2 * size + APART_BYTES)
        if self.source == NULL:
            raise MemoryError
        self.target = self.source + size + APART_BYTES
        memset(self.source, 0xA5, size)
        memset(self.target, 0, size)
        self.size = size

    def copy(self, uint64_t total, uint64_t portion):
        """memcpy() `total` bytes in portions; ValueError unless these make the total and fit."""
        cdef uint64_t done = 0
        if not 1 <= portion <= self.size or total % portion:
            raise ValueError(f"{total} bytes in portions of {portion}, areas of {self.size}")
        with nogil:
            while done < total:
                if self.at + portion > self.size:
                    self.at = 0
                memcpy(self.target + self.at, self.source + self.at, portion)
                self.at += portion
                done += portion

    @property
    def copied(self):
        """The target area, as bytes."""
        return (<const char *>self.target)[:self.size]

    def __dealloc__(self):
        free(self.source)
