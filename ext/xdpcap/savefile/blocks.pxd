from libc.stdint cimport uint32_t, uint64_t

from xdpcap.host.stage_times cimport StageClocks
from xdpcap.clib.liburing cimport io_uring


cdef enum SinkMode:
    SINK_DIRECT = 0     # io_uring, O_DIRECT, registered buffers
    SINK_BUFFERED = 1   # io_uring through the page cache
    SINK_SYNC = 2       # pwrite(): the file system is memory, waiting is not waiting
    SINK_STREAM = 3     # write() to a pipe or terminal, whole records at a time
    SINK_DISCARD = 4    # nowhere: what would be written is thrown away


cdef enum:
    SINK_FILES = 16     # files that may be unfinished at once: the open one and its elders


cdef enum SlotState:
    SLOT_FREE = 0
    SLOT_OPEN = 1
    SLOT_FLIGHT = 2
    SLOT_DONE = 3
    SLOT_FAILED = 4


cdef enum:
    SINK_MARKS = 16     # of a block: where whole records end, so that a part of it can be kept


cdef struct Mark:
    uint32_t end            # offset in the block
    uint64_t packets        # those that end in the block up to there
    uint64_t bytes          # their caplens


# A block of the pool, and what must be known when its write completes.
cdef struct Slot:
    SlotState state
    uint32_t file           # index in Sink.files
    uint32_t length         # bytes to write; less than a block for the last of a file
    uint32_t done           # bytes written so far
    uint32_t flushed        # bytes that the last flush has put on disk
    uint64_t file_offset
    uint64_t cut            # file offset up to which whole records stand before this block
    uint64_t packets        # packets whose last byte lies in this block
    uint64_t bytes          # their caplens
    uint64_t flushed_packets
    uint64_t flushed_bytes
    int error               # errno of a failed write
    uint32_t mark_count
    Mark[SINK_MARKS] marks


cdef struct SinkFile:
    bint used
    bint finished           # no further block will come
    bint direct             # blocks go to direct_fd
    int fd                  # through the page cache
    int direct_fd           # O_DIRECT, or -1
    uint32_t in_flight      # blocks not yet retired
    uint64_t base           # stream position of the file's first byte
    uint64_t size           # bytes encoded
    uint64_t packets        # packets encoded
    uint64_t written        # packets on disk
    uint64_t written_bytes  # their caplens
    uint64_t cut            # with error: the length of the readable part
    int error               # errno of the first failed write


cdef struct Sink:
    unsigned char *base     # the pool, with room for one record behind it
    uint64_t pool_size
    uint64_t block_size
    uint32_t block_count
    uint64_t pos            # stream position of the next byte
    unsigned char *out      # where that byte goes in the pool
    uint64_t block_start    # of the open block
    uint64_t boundary       # where the open block is marked or ends; a stream is written out
    Slot *open              # the open block's slot
    SinkFile *file          # the current file
    uint64_t tail           # of the oldest block not yet retired
    Slot *slots
    SinkFile[SINK_FILES] files
    uint32_t current
    bint has_file
    SinkMode mode
    io_uring ring
    bint has_ring
    bint fixed              # the pool is registered
    uint32_t flight_count
    bint some_file_done
    uint64_t written        # packets whose bytes the kernel has taken
    uint64_t written_bytes
    uint64_t write_dropped  # packets received and lost for want of a working file
    uint64_t disk_bytes     # bytes handed to the file, headers included
    uint64_t now_ns         # CLOCK_MONOTONIC as the loop last read it
    uint64_t unflushed_since_ns
    void *stream_lock       # pthread_mutex_t shared by the streams of one pipe
    int *stream_error       # errno of the pipe's first failed write, under the lock
    int *stop_flag
    StageClocks *clocks     # of a worker that is measured, else NULL


# The block that holds a stream position.
cdef inline Slot *slot_of(const Sink *s, uint64_t position) noexcept nogil:
    return &s.slots[(position // s.block_size) % s.block_count]


# ---- between two batches
cdef void sink_boundary(Sink *s, uint32_t length, uint32_t caplen) noexcept nogil
cdef void sink_begin(Sink *s, uint32_t index, uint32_t header_length) noexcept nogil
cdef void sink_finish(Sink *s) noexcept nogil
cdef void sink_reap(Sink *s) noexcept nogil
cdef void sink_wait(Sink *s, uint32_t timeout_us) noexcept nogil
cdef void sink_flush(Sink *s) noexcept nogil


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
