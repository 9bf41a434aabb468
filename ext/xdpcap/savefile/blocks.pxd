from libc.stdint cimport uint32_t, uint64_t

from xdpcap.savefile.sink_state cimport *


# ---- between two batches; see _blocks.pyx
cdef void sink_boundary(Sink *s, uint32_t length, uint32_t caplen) noexcept nogil
cdef void sink_begin(Sink *s, uint32_t index, uint32_t header_length) noexcept nogil
cdef void sink_finish(Sink *s) noexcept nogil
cdef void sink_reap(Sink *s) noexcept nogil
cdef void sink_wait(Sink *s, uint32_t timeout_us) noexcept nogil
cdef void sink_flush(Sink *s) noexcept nogil
cdef uint64_t monotonic_ns() noexcept nogil


# ---- for every packet

# Bytes that may be written at s.out now.  One less than the pool has: a record that ends
# exactly at a block's end opens the next block, whose slot must be free then.
cdef inline uint64_t sink_room(const Sink *s) noexcept nogil:
    return s.pool_size - (s.pos - s.tail) - 1


cdef inline bint sink_failed(const Sink *s) noexcept nogil:
    return not s.has_file or s.file.error != 0


# Account for a record of `length` bytes just written at s.out.
cdef inline void sink_commit(Sink *s, uint32_t length, uint32_t caplen) noexcept nogil:
    s.pos += length
    s.out += length
    s.file.size += length
    s.file.packets += 1
    if s.unflushed_since_ns == 0:
        s.unflushed_since_ns = s.now_ns
    if s.pos >= s.boundary:
        sink_boundary(s, length, caplen)
        return
    s.open.packets += 1
    s.open.bytes += caplen
