"""Blocks between the worker and the disk: the part of the file sink without the GIL.

Purpose: cut a stream of records into 4 KiB-aligned blocks, write each whole block with
io_uring (O_DIRECT with registered buffers where the file system takes it), and know
for every packet whether it reached the file.
Owner: one worker thread; nothing is locked except a pipe that several workers share.
Frees: nothing; `savefile.sink` owns the struct.

Behind the pool there is room for one record more, so one that straddles the pool's end
is still encoded as one run of bytes; what lies behind the end then goes to its start.  Blocks
retire in order: a packet counts as `written` when its block and all before it are in the file.
The part of a block that a quiet moment leaves behind goes through the page cache (sink_flush),
so the file's length is exact at all times and no padding is ever in it.

Source relied on: io_uring_enter(2), open(2) O_DIRECT; fs/iomap/direct-io.c; pipe(7).
"""

from libc.errno cimport EAGAIN, EINTR, EINVAL, EIO, ETIMEDOUT, errno
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from xdpcap.clib.atomic cimport __ATOMIC_RELAXED, atomic_load_int
from xdpcap.clib.posix cimport (
    CLOCK_MONOTONIC,
    POLLOUT,
    poll,
    pollfd,
    pthread_mutex_lock,
    pthread_mutex_t,
    pthread_mutex_unlock,
    pwrite,
    write,
)
from xdpcap.host.stage_times cimport (
    STAGE_ENCODE,
    STAGE_PEEK,
    STAGE_REAP,
    stage_ends,
    write_begins,
    write_ends,
)
from xdpcap.clib.liburing cimport *
from xdpcap.host.clocks cimport clock_ns


cdef enum:
    DIRECT_ALIGN = 4096         # bytes; covers every block device sector size in use
    # How long a reader that has stopped reading may hold up a stop.
    STREAM_STOP_MS = 1000


# ---------------------------------------------------------------- blocks that are through

cdef void _count_up_to(Sink *s, const Slot *slot, uint64_t packets, uint64_t size) noexcept nogil:
    cdef SinkFile *f = &s.files[slot.file]
    f.written += packets - slot.flushed_packets
    f.written_bytes += size - slot.flushed_bytes
    s.written += packets - slot.flushed_packets
    s.written_bytes += size - slot.flushed_bytes


cdef void count_written(Sink *s, const Slot *slot) noexcept nogil:
    """A block's packets are in the file; those of an earlier flush are counted."""
    _count_up_to(s, slot, slot.packets, slot.bytes)


cdef uint64_t readable_end(const Slot *slot) noexcept nogil:
    """Bytes of a file that are whole when this block of it could not be written."""
    if slot.flushed:
        return slot.file_offset + slot.flushed
    if slot.cut > slot.file_offset + slot.done:
        return 0    # the first block, and not even the header got there
    return slot.cut


cdef void _salvage(Sink *s, Slot *slot) noexcept nogil:
    """A block of which the disk took a part: its records up to the last mark in there stay."""
    cdef SinkFile *f = &s.files[slot.file]
    cdef Mark *mark
    cdef uint32_t i
    for i in range(slot.mark_count, 0, -1):
        mark = &slot.marks[i - 1]
        if mark.end <= slot.done and mark.end > slot.flushed:
            f.cut = slot.file_offset + mark.end
            _count_up_to(s, slot, mark.packets, mark.bytes)
            slot.flushed_packets = mark.packets
            slot.flushed_bytes = mark.bytes
            return


cdef void _retire_one(Sink *s, Slot *slot) noexcept nogil:
    cdef SinkFile *f = &s.files[slot.file]
    if slot.state == SLOT_FAILED and f.error == 0:
        f.cut = readable_end(slot)
        _salvage(s, slot)
        f.error = slot.error
    if f.error:
        s.write_dropped += slot.packets - slot.flushed_packets
    else:
        count_written(s, slot)
    f.in_flight -= 1
    if f.finished and f.in_flight == 0:
        s.some_file_done = True
    slot.state = SLOT_FREE


cdef void retire(Sink *s) noexcept nogil:
    """Count the oldest blocks that are through, in order, and free their room."""
    cdef Slot *slot
    while s.tail < s.block_start:
        slot = slot_of(s, s.tail)
        if slot.state != SLOT_DONE and slot.state != SLOT_FAILED:
            return
        _retire_one(s, slot)
        s.tail += s.block_size


# ---------------------------------------------------------------- a pipe

cdef int _stream_out(int fd, const unsigned char *data, uint64_t length, uint64_t *written,
                     int *stop_flag) noexcept nogil:
    """Write it all to a pipe; 0 or errno.  A stop waits a second for the reader."""
    cdef pollfd waiting
    cdef ssize_t n
    cdef int patience_ms = STREAM_STOP_MS
    waiting.fd = fd
    waiting.events = POLLOUT
    while length:
        if poll(&waiting, 1, 100) == 0:
            if stop_flag != NULL and atomic_load_int(stop_flag, __ATOMIC_RELAXED):
                patience_ms -= 100
                if patience_ms <= 0:
                    return ETIMEDOUT
            continue
        n = write(fd, data, length)
        if n > 0:
            data += n
            length -= <uint64_t>n
            written[0] += <uint64_t>n
        elif n < 0 and (errno == EAGAIN or errno == EINTR):
            continue
        else:
            return errno if n < 0 else EIO
    return 0


# ---------------------------------------------------------------- blocks

cdef void sink_boundary(Sink *s, uint32_t length, uint32_t caplen) noexcept nogil:
    """The record just written reaches a mark of the open block, or its end."""
    cdef bint ends_here = s.mode == SINK_STREAM or s.pos <= s.block_start + s.block_size
    if ends_here:
        s.open.packets += 1
        s.open.bytes += caplen
    if s.mode == SINK_STREAM:
        _write_stream(s)
    elif s.pos < s.block_start + s.block_size:
        _mark(s)
    else:
        _cross(s, length, caplen, not ends_here)


cdef void _mark(Sink *s) noexcept nogil:
    """Whole records end here: what of a block the disk still takes is kept up to a mark."""
    cdef Slot *slot = s.open
    cdef Mark *mark = &slot.marks[slot.mark_count]
    mark.end = <uint32_t>(s.pos - s.block_start)
    mark.packets = slot.packets
    mark.bytes = slot.bytes
    slot.mark_count += 1
    _next_boundary(s)


cdef void _next_boundary(Sink *s) noexcept nogil:
    """The next of the block's equal parts that is ahead; the last is its end."""
    cdef uint64_t part = s.block_size // SINK_MARKS
    s.boundary = s.block_start + ((s.pos - s.block_start) // part + 1) * part


cdef void _cross(Sink *s, uint32_t length, uint32_t caplen, bint straddles) noexcept nogil:
    """The open block is full: submit it, open the next."""
    cdef uint64_t end = s.block_start + s.block_size
    if straddles and end % s.pool_size == 0:
        # The block there is free, or there would have been no room for the record.
        memcpy(s.base, s.base + s.pool_size, s.pos - end)
    if s.clocks != NULL:
        write_begins(s.clocks, STAGE_ENCODE)
    _submit_open(s, <uint32_t>s.block_size)
    if s.clocks != NULL:
        write_ends(s.clocks)
    # What straddles began at its start and ends in the block that opens now.
    _open_slot(s, end, s.file.size - (length if straddles else 0))
    if straddles:
        s.open.packets = 1
        s.open.bytes = caplen
    # A block that was written at once, or failed, is through: its room is needed now,
    # since without anything in flight nobody comes by to free it.
    retire(s)


cdef void _open_slot(Sink *s, uint64_t position, uint64_t cut) noexcept nogil:
    cdef Slot *slot = slot_of(s, position)
    memset(slot, 0, sizeof(Slot))
    slot.state = SLOT_OPEN
    slot.file = s.current
    slot.file_offset = position - s.file.base
    slot.cut = cut
    s.open = slot
    s.block_start = position
    _next_boundary(s)
    s.out = s.base + s.pos % s.pool_size
    s.unflushed_since_ns = 0 if s.pos == position else s.now_ns


cdef void sink_begin(Sink *s, uint32_t index, uint32_t header_length) noexcept nogil:
    """The file `index` is the current one; its header goes to s.out."""
    s.current = index
    s.file = &s.files[index]
    s.file.base = s.pos
    s.has_file = True
    s.now_ns = clock_ns(CLOCK_MONOTONIC)
    if s.mode == SINK_STREAM:
        s.open = s.slots
        s.boundary = s.pos + s.block_size
        s.out = s.base + s.pos % s.pool_size
    else:
        _open_slot(s, s.pos, header_length)


cdef void _submit_open(Sink *s, uint32_t length) noexcept nogil:
    """Hand the open block's first `length` bytes to the disk."""
    cdef Slot *slot = s.open
    cdef SinkFile *f = s.file
    slot.length = length
    f.in_flight += 1
    if f.error:
        slot.state = SLOT_FAILED
        slot.error = f.error
    elif s.mode == SINK_DISCARD:
        slot.state = SLOT_DONE
    elif s.mode == SINK_SYNC:
        # What a flush has written already is in the page cache: go on from there.
        slot.done = slot.flushed
        slot.state = SLOT_FLIGHT
        _write_now(s, slot)
    else:
        slot.state = SLOT_FLIGHT
        s.flight_count += 1
        _queue_write(s, slot)


cdef void _fail(Slot *slot, int error) noexcept nogil:
    slot.state = SLOT_FAILED
    slot.error = error


cdef void _write_now(Sink *s, Slot *slot) noexcept nogil:
    """pwrite() the rest of a block, completing short writes."""
    cdef const unsigned char *data = s.base + <uint64_t>(slot - s.slots) * s.block_size
    cdef ssize_t n
    while slot.done < slot.length:
        n = pwrite(s.files[slot.file].fd, data + slot.done, slot.length - slot.done,
                   <long>(slot.file_offset + slot.done))
        if n > 0:
            slot.done += <uint32_t>n
            s.disk_bytes += <uint64_t>n
        elif n < 0 and errno == EINTR:
            continue
        else:
            _fail(slot, errno if n < 0 else EIO)
            return
    slot.state = SLOT_DONE


cdef void _queue_write(Sink *s, Slot *slot) noexcept nogil:
    """Queue the rest of a block; a part that is no multiple of 4 KiB goes buffered."""
    cdef SinkFile *f = &s.files[slot.file]
    cdef io_uring_sqe *sqe = io_uring_get_sqe(&s.ring)
    cdef uint64_t index = <uint64_t>(slot - s.slots)
    cdef unsigned char *data = s.base + index * s.block_size + slot.done
    cdef uint32_t length = slot.length - slot.done
    cdef uint64_t offset = slot.file_offset + slot.done
    cdef int fd = f.fd
    if f.direct and length % DIRECT_ALIGN == 0 and slot.done % DIRECT_ALIGN == 0:
        fd = f.direct_fd
    if sqe == NULL:
        # The ring has twice as many entries as there are blocks, so this is a bug.
        _fail(slot, EIO)
        s.flight_count -= 1
        return
    if s.fixed:
        io_uring_prep_write_fixed(sqe, fd, data, length, offset, 0)
    else:
        io_uring_prep_write(sqe, fd, data, length, offset)
    io_uring_sqe_set_data64(sqe, index)
    io_uring_submit(&s.ring)


cdef void _completed(Sink *s, Slot *slot, int32_t result) noexcept nogil:
    cdef SinkFile *f = &s.files[slot.file]
    if result > 0:
        slot.done += <uint32_t>result
        s.disk_bytes += <uint64_t>result
        if slot.done >= slot.length:
            slot.state = SLOT_DONE
            s.flight_count -= 1
        else:
            _queue_write(s, slot)
    elif result == -EAGAIN or result == -EINTR:
        _queue_write(s, slot)
    elif result == -EINVAL and f.direct:
        # The file system takes O_DIRECT at open() and not at write().
        f.direct = False
        _queue_write(s, slot)
    else:
        _fail(slot, -result if result < 0 else EIO)
        s.flight_count -= 1


cdef void _reap(Sink *s) noexcept nogil:
    cdef io_uring_cqe *cqe = NULL
    while io_uring_peek_cqe(&s.ring, &cqe) == 0:
        _completed(s, &s.slots[io_uring_cqe_get_data64(cqe)], cqe.res)
        io_uring_cqe_seen(&s.ring, cqe)
    retire(s)


cdef void sink_reap(Sink *s) noexcept nogil:
    """Take completions without waiting."""
    if s.flight_count == 0:
        return
    if s.clocks != NULL:
        stage_ends(s.clocks, STAGE_PEEK)
    _reap(s)
    if s.clocks != NULL:
        stage_ends(s.clocks, STAGE_REAP)


cdef void sink_wait(Sink *s, uint32_t timeout_us) noexcept nogil:
    """Wait for one completion, at most so long; then take all there are."""
    cdef io_uring_cqe *cqe = NULL
    cdef __kernel_timespec ts
    if s.flight_count == 0:
        return
    ts.tv_sec = timeout_us // 1000000
    ts.tv_nsec = <long long>(timeout_us % 1000000) * 1000
    io_uring_wait_cqe_timeout(&s.ring, &cqe, &ts)
    _reap(s)


# ---------------------------------------------------------------- the tail

cdef void sink_flush(Sink *s) noexcept nogil:
    """Put the open block's whole records into the file through the page cache."""
    cdef Slot *slot
    cdef SinkFile *f
    cdef ssize_t n
    cdef uint32_t length
    if s.flight_count:
        # Only when all before it is in the file does the tail make sense; the caller
        # comes again, since unflushed_since_ns stays as it is.
        return
    s.unflushed_since_ns = 0
    if not s.has_file or s.mode == SINK_DISCARD:
        return
    if s.mode == SINK_STREAM:
        _write_stream(s)
        return
    f = s.file
    slot = s.open
    length = <uint32_t>(s.pos - s.block_start)
    if f.error or slot.flushed == length:
        return
    slot.done = slot.flushed
    while slot.done < length:
        n = pwrite(f.fd, s.base + s.block_start % s.pool_size + slot.done,
                   length - slot.done, <long>(slot.file_offset + slot.done))
        if n > 0:
            slot.done += <uint32_t>n
        elif n < 0 and errno == EINTR:
            continue
        else:
            # Retired with the rest of the file: what stood before is still good.
            slot.error = errno if n < 0 else EIO
            f.error = slot.error
            f.cut = readable_end(slot)
            slot.done = 0
            return
    slot.done = 0
    s.disk_bytes += length - slot.flushed
    slot.flushed = length
    count_written(s, slot)
    slot.flushed_packets = slot.packets
    slot.flushed_bytes = slot.bytes


cdef int _stream_pending(Sink *s) noexcept nogil:
    return _stream_out(s.file.fd, s.base + s.tail % s.pool_size, s.pos - s.tail, &s.disk_bytes,
                      s.stop_flag)


cdef void _write_stream(Sink *s) noexcept nogil:
    """Write everything pending to the pipe, records of one worker in one piece."""
    cdef SinkFile *f = s.file
    cdef Slot *slot = s.open
    cdef pthread_mutex_t *lock = <pthread_mutex_t *>s.stream_lock
    if not f.error:
        if lock == NULL:
            f.error = _stream_pending(s)
        else:
            pthread_mutex_lock(lock)
            if s.stream_error[0] == 0:
                s.stream_error[0] = _stream_pending(s)
            # Where one worker's record was torn, no other may go on.
            f.error = s.stream_error[0]
            pthread_mutex_unlock(lock)
    if f.error:
        s.write_dropped += slot.packets
    else:
        slot.file = s.current
        count_written(s, slot)
    slot.packets = slot.bytes = 0
    # Always from the pool's start on: what is pending never reaches its end.
    s.pos += s.pool_size - s.pos % s.pool_size
    s.tail = s.pos
    s.boundary = s.pos + s.block_size
    s.out = s.base


cdef void sink_finish(Sink *s) noexcept nogil:
    """No more records for the current file; its tail goes to the disk."""
    cdef SinkFile *f = s.file
    cdef uint32_t length
    if s.mode == SINK_STREAM:
        _write_stream(s)
        s.some_file_done = True
    else:
        length = <uint32_t>(s.pos - s.block_start)
        if length:
            # The next file starts on a block of its own, so that it is aligned too.
            _submit_open(s, length)
            s.pos = s.block_start + s.block_size
            s.block_start = s.pos
            retire(s)
        if f.in_flight == 0:
            s.some_file_done = True
    f.finished = True
    s.has_file = False
    s.unflushed_since_ns = 0
