"""The file sink: a ring of blocks between the worker and the disk.

Purpose: take encoded records, cut the stream into 4 KiB-aligned blocks, write each
whole block with io_uring (O_DIRECT with registered buffers where the file system
takes it), and know for every packet whether it reached the file.
Owner: one worker thread; nothing is locked except a pipe that several workers share.
Frees: close(), after the last completion.

The pool is mapped twice in a row, so a record that straddles two blocks, or the
pool's end, is still written as one run of bytes.  Blocks retire in order: a packet
counts as `written` when its block and all before it are in the file.  The part of a
block that a quiet moment leaves behind goes through the page cache (sink_flush), so
the file's length is exact at all times and no padding is ever in it.

Source relied on: io_uring_enter(2), open(2) O_DIRECT; fs/iomap/direct-io.c.
"""

cimport cython
from libc.errno cimport EAGAIN, EINTR, EINVAL, EIO, ETIMEDOUT, errno
from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from xdpcap.liburing cimport *

import os
import stat
from collections import namedtuple

from xdpcap.errors import KernelError, UsageError


cdef extern from *:
    """
    #define _GNU_SOURCE
    #include <sys/mman.h>
    #include <sys/vfs.h>
    #include <pthread.h>
    #include <unistd.h>
    #include <poll.h>
    #include <time.h>
    """
    int memfd_create(const char *name, unsigned flags) nogil
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset) nogil
    int munmap(void *addr, size_t length) nogil
    int ftruncate(int fd, long length) nogil
    int close_fd "close"(int fd) nogil
    ssize_t pwrite(int fd, const void *buf, size_t n, long offset) nogil
    ssize_t write(int fd, const void *buf, size_t n) nogil
    int PROT_NONE, PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_SHARED, MAP_FIXED
    int MAP_POPULATE
    unsigned MFD_CLOEXEC
    void *MAP_FAILED

    struct statfs_t "statfs":
        long f_type
    int fstatfs(int fd, statfs_t *out) nogil

    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *m, void *attr) nogil
    int pthread_mutex_lock(pthread_mutex_t *m) nogil
    int pthread_mutex_unlock(pthread_mutex_t *m) nogil

    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long n, int timeout_ms) nogil
    short POLLOUT

    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *ts) nogil
    int CLOCK_MONOTONIC

    int atomic_load_int "__atomic_load_n"(int *p, int order) nogil
    int __ATOMIC_RELAXED

cdef enum:
    TMPFS_MAGIC = 0x01021994
    RAMFS_MAGIC = 0x858458f6
    DIRECT_ALIGN = 4096         # bytes; covers every block device sector size in use
    # How long a reader that has stopped reading may hold up a stop.
    STREAM_STOP_MS = 1000

MODE_NAMES = {SINK_DIRECT: "O_DIRECT, io_uring", SINK_BUFFERED: "page cache, io_uring",
              SINK_SYNC: "memory file system", SINK_STREAM: "pipe"}

FinishedFile = namedtuple("FinishedFile", "index size packets bytes error")
FinishedFile.__doc__ = """A file whose last write has completed.

`index`: as open_file() gave it; `size`: length of the readable part, bytes; `packets`
and `bytes` (caplens) in it; `error`: errno of the first failed write, or 0.
"""


cdef inline uint64_t _now_ns() noexcept nogil:
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    return <uint64_t>ts.tv_sec * 1000000000 + <uint64_t>ts.tv_nsec


cdef inline Slot *_slot_of(const Sink *s, uint64_t position) noexcept nogil:
    return &s.slots[(position // s.block_size) % s.block_count]


# ---------------------------------------------------------------- used by the hot loop

cdef uint64_t sink_room(const Sink *s) noexcept nogil:
    """Bytes that may be written at sink_at() now.

    One less than the pool has: a record that ends exactly at a block's end opens the
    next block, whose slot must be free then.
    """
    return s.pool_size - (s.pos - s.tail) - 1


cdef unsigned char *sink_at(const Sink *s) noexcept nogil:
    """Where the next record goes; contiguous for sink_room() bytes."""
    return s.base + s.pos % s.pool_size


cdef bint sink_failed(const Sink *s) noexcept nogil:
    return not s.has_file or s.files[s.current].error != 0


cdef void sink_commit(Sink *s, uint32_t length, uint32_t caplen) noexcept nogil:
    """Account for a record of `length` bytes just written at sink_at()."""
    cdef SinkFile *f = &s.files[s.current]
    cdef uint64_t start = s.pos, end = s.pos + length
    cdef uint64_t boundary = s.block_start + s.block_size
    cdef Slot *slot
    if s.unflushed_since_ns == 0:
        s.unflushed_since_ns = _now_ns()
    s.pos = end
    f.size += length
    f.packets += 1
    if s.mode == SINK_STREAM:
        slot = s.slots
        slot.packets += 1
        slot.bytes += caplen
        if s.pos - s.tail >= s.block_size:
            _write_stream(s)
        return
    if end <= boundary:
        slot = _slot_of(s, s.block_start)
        slot.packets += 1
        slot.bytes += caplen
        if end < boundary:
            return
        start = end
    _submit_open(s, <uint32_t>s.block_size)
    _open_slot(s, boundary, start - f.base)
    if end > boundary:
        # The record began in the block just submitted and ends in this one.
        slot = _slot_of(s, boundary)
        slot.packets = 1
        slot.bytes = caplen


# ---------------------------------------------------------------- blocks

cdef void _open_slot(Sink *s, uint64_t position, uint64_t cut) noexcept nogil:
    cdef Slot *slot = _slot_of(s, position)
    memset(slot, 0, sizeof(Slot))
    slot.state = SLOT_OPEN
    slot.file = s.current
    slot.file_offset = position - s.files[s.current].base
    slot.cut = cut
    s.block_start = position
    s.unflushed_since_ns = 0 if s.pos == position else _now_ns()


cdef void _submit_open(Sink *s, uint32_t length) noexcept nogil:
    """Hand the open block's first `length` bytes to the disk."""
    cdef Slot *slot = _slot_of(s, s.block_start)
    cdef SinkFile *f = &s.files[slot.file]
    slot.length = length
    f.in_flight += 1
    if f.error:
        slot.state = SLOT_FAILED
        slot.error = f.error
    elif s.mode == SINK_SYNC:
        # What a flush has written already is in the page cache: go on from there.
        slot.done = slot.flushed
        slot.state = SLOT_FLIGHT
        _write_now(s, slot)
    else:
        slot.state = SLOT_FLIGHT
        s.flight_count += 1
        _queue_write(s, slot)
    if s.mode == SINK_SYNC or f.error:
        _retire(s)


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


cdef void _count_written(Sink *s, const Slot *slot) noexcept nogil:
    """A block's packets are in the file; those of an earlier flush are counted."""
    cdef SinkFile *f = &s.files[slot.file]
    cdef uint64_t packets = slot.packets - slot.flushed_packets
    cdef uint64_t size = slot.bytes - slot.flushed_bytes
    f.written += packets
    f.written_bytes += size
    s.written += packets
    s.written_bytes += size


cdef void _retire_one(Sink *s, Slot *slot) noexcept nogil:
    cdef SinkFile *f = &s.files[slot.file]
    if slot.state == SLOT_FAILED and f.error == 0:
        f.error = slot.error
        f.cut = slot.file_offset + slot.flushed if slot.flushed else slot.cut
    if f.error:
        s.write_dropped += slot.packets - slot.flushed_packets
    else:
        _count_written(s, slot)
    f.in_flight -= 1
    if f.finished and f.in_flight == 0:
        s.some_file_done = True
    slot.state = SLOT_FREE


cdef void _retire(Sink *s) noexcept nogil:
    """Count the oldest blocks that are through, in order, and free their room."""
    cdef Slot *slot
    while s.tail < s.block_start:
        slot = _slot_of(s, s.tail)
        if slot.state != SLOT_DONE and slot.state != SLOT_FAILED:
            return
        _retire_one(s, slot)
        s.tail += s.block_size


cdef void sink_reap(Sink *s) noexcept nogil:
    """Take completions without waiting."""
    cdef io_uring_cqe *cqe = NULL
    if s.flight_count == 0:
        return
    while io_uring_peek_cqe(&s.ring, &cqe) == 0:
        _completed(s, &s.slots[io_uring_cqe_get_data64(cqe)], cqe.res)
        io_uring_cqe_seen(&s.ring, cqe)
    _retire(s)


cdef void sink_wait(Sink *s, uint32_t timeout_us) noexcept nogil:
    """Wait for one completion, at most so long; then take all there are."""
    cdef io_uring_cqe *cqe = NULL
    cdef __kernel_timespec ts
    if s.flight_count == 0:
        return
    ts.tv_sec = timeout_us // 1000000
    ts.tv_nsec = <long long>(timeout_us % 1000000) * 1000
    io_uring_wait_cqe_timeout(&s.ring, &cqe, &ts)
    sink_reap(s)


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
    if not s.has_file:
        return
    if s.mode == SINK_STREAM:
        _write_stream(s)
        return
    f = &s.files[s.current]
    slot = _slot_of(s, s.block_start)
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
            f.cut = slot.file_offset + slot.flushed if slot.flushed else slot.cut
            slot.done = 0
            return
    slot.done = 0
    s.disk_bytes += length - slot.flushed
    slot.flushed = length
    _count_written(s, slot)
    slot.flushed_packets = slot.packets
    slot.flushed_bytes = slot.bytes


cdef int _stream_out(Sink *s, int fd, const unsigned char *data, uint64_t length) noexcept nogil:
    """Write it all to a pipe; 0 or errno.  A stop waits a second for the reader."""
    cdef pollfd waiting
    cdef ssize_t n
    cdef int patience_ms = STREAM_STOP_MS
    waiting.fd = fd
    waiting.events = POLLOUT
    while length:
        if poll(&waiting, 1, 100) == 0:
            if s.stop_flag != NULL and atomic_load_int(s.stop_flag, __ATOMIC_RELAXED):
                patience_ms -= 100
                if patience_ms <= 0:
                    return ETIMEDOUT
            continue
        n = write(fd, data, length)
        if n > 0:
            data += n
            length -= <uint64_t>n
            s.disk_bytes += <uint64_t>n
        elif n < 0 and (errno == EAGAIN or errno == EINTR):
            continue
        else:
            return errno if n < 0 else EIO
    return 0


cdef void _write_stream(Sink *s) noexcept nogil:
    """Write everything pending to the pipe, records of one worker in one piece."""
    cdef SinkFile *f = &s.files[s.current]
    cdef Slot *slot = s.slots
    cdef pthread_mutex_t *lock = <pthread_mutex_t *>s.stream_lock
    if not f.error:
        if lock != NULL:
            pthread_mutex_lock(lock)
        f.error = _stream_out(s, f.fd, s.base + s.tail % s.pool_size, s.pos - s.tail)
        if lock != NULL:
            pthread_mutex_unlock(lock)
    if f.error:
        s.write_dropped += slot.packets
    else:
        slot.file = s.current
        _count_written(s, slot)
    slot.packets = slot.bytes = 0
    s.tail = s.pos


cdef void _finish(Sink *s) noexcept nogil:
    """No more records for the current file; its tail goes to the disk."""
    cdef SinkFile *f = &s.files[s.current]
    cdef Slot *slot
    cdef uint32_t length
    if s.mode == SINK_STREAM:
        _write_stream(s)
        s.some_file_done = True
    else:
        slot = _slot_of(s, s.block_start)
        length = <uint32_t>(s.pos - s.block_start)
        if length:
            # The next file starts on a block of its own, so that it is aligned too.
            _submit_open(s, length)
            s.pos = s.block_start + s.block_size
            s.block_start = s.pos
            _retire(s)
        if f.in_flight == 0:
            s.some_file_done = True
    f.finished = True
    s.has_file = False
    s.unflushed_since_ns = 0


# ---------------------------------------------------------------- Python's side

cdef class StreamLock:
    """Keeps the records of several workers whole on one pipe."""

    cdef pthread_mutex_t mutex

    def __cinit__(self):
        pthread_mutex_init(&self.mutex, NULL)


def choose_mode(int fd, *, bint direct=True):
    """(mode, direct_fd) for a file opened for writing.

    mode: "direct", "buffered", "sync" or "stream"; direct_fd: a second descriptor with
    O_DIRECT, or -1.  Memory file systems take O_DIRECT from 6.6 and copy all the same,
    so they are recognised by statfs(2).
    """
    cdef statfs_t fs
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return "stream", -1
    if fstatfs(fd, &fs) == 0 and <uint64_t>fs.f_type in (TMPFS_MAGIC, RAMFS_MAGIC):
        return "sync", -1
    if direct:
        try:
            return "direct", os.open(f"/proc/self/fd/{fd}",
                                     os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:
            pass
    return "buffered", -1


@cython.no_gc_clear
cdef class FileSink:
    """A pool of blocks and the files they go to.

    Parameters
    ----------
    block_size : int
        Bytes a write, a multiple of 4096; no record may be longer.
    block_count : int
        Blocks in the pool, at least 2: all but one may be in flight.
    mode : str
        "direct", "buffered", "sync" or "stream", as choose_mode() says.
    stream_lock : StreamLock
        Shared by the sinks of one pipe.

    Raises UsageError for impossible sizes, KernelError for what the kernel refuses.
    """

    def __cinit__(self, uint64_t block_size, uint32_t block_count, str mode not None="direct",
                  StreamLock stream_lock=None):
        if block_size == 0 or block_size % DIRECT_ALIGN:
            raise UsageError(f"a block of {block_size} bytes is not a multiple of {DIRECT_ALIGN}")
        if block_count < 2:
            raise UsageError("the sink needs two blocks at least")
        self.s.mode = {"direct": SINK_DIRECT, "buffered": SINK_BUFFERED, "sync": SINK_SYNC,
                       "stream": SINK_STREAM}[mode]
        self.s.block_size = block_size
        self.s.block_count = block_count
        self.s.pool_size = block_size * block_count
        self._lock_owner = stream_lock
        if stream_lock is not None:
            self.s.stream_lock = &stream_lock.mutex
        self.s.slots = <Slot *>calloc(block_count, sizeof(Slot))
        if self.s.slots == NULL:
            raise MemoryError
        self._map_pool()
        if self.s.mode in (SINK_DIRECT, SINK_BUFFERED):
            self._make_ring()

    def _map_pool(self):
        """The pool, twice in a row, from one memfd."""
        cdef size_t size = self.s.pool_size
        cdef void *area
        cdef void *half
        cdef int fd = memfd_create(b"xdpcap-blocks", MFD_CLOEXEC)
        if fd < 0 or ftruncate(fd, <long>size):
            raise KernelError(f"memfd_create({size} bytes)", errno, "ask for less with --write-buffer")
        area = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if area != MAP_FAILED:
            for half_index in range(2):
                half = mmap(<char *>area + <size_t>half_index * size, size, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0)
                if half == MAP_FAILED:
                    munmap(area, 2 * size)
                    area = MAP_FAILED
                    break
        close_fd(fd)
        if area == MAP_FAILED:
            raise KernelError(f"mmap({size} bytes of blocks)", errno, "ask for less with --write-buffer")
        self.s.base = <unsigned char *>area

    def _make_ring(self):
        cdef iovec whole
        cdef int err = io_uring_queue_init(2 * self.s.block_count, &self.s.ring, 0)
        if err < 0:
            # A container or a sysctl (kernel.io_uring_disabled) may forbid it.
            self.s.mode = SINK_SYNC
            return
        self.s.has_ring = True
        whole.iov_base = self.s.base
        whole.iov_len = self.s.pool_size
        # Without the right to lock memory the writes work all the same, unregistered.
        self.s.fixed = io_uring_register_buffers(&self.s.ring, &whole, 1) == 0

    def open_file(self, int fd, int direct_fd=-1, bytes header not None=b""):
        """Begin a file on an open descriptor; returns its index.

        `header` stands at its start.  The descriptors stay the caller's to close,
        after the file has come back from collect().
        """
        cdef uint32_t index
        cdef SinkFile *f
        if self.s.has_file:
            raise ValueError("finish the current file first")
        if <uint64_t>len(header) > self.s.block_size // 2:
            raise UsageError("the file's header is longer than half a block")
        if self.s.pool_size - (self.s.pos - self.s.tail) < self.s.block_size:
            raise BlockingIOError("every block is in flight")
        for index in range(SINK_FILES):
            if not self.s.files[index].used:
                break
        else:
            raise BlockingIOError("too many files are unfinished")
        f = &self.s.files[index]
        memset(f, 0, sizeof(SinkFile))
        f.used = True
        f.fd = fd
        f.direct_fd = direct_fd
        f.direct = direct_fd >= 0
        f.base = self.s.pos
        self.s.current = index
        self.s.has_file = True
        if self.s.mode != SINK_STREAM:
            _open_slot(&self.s, self.s.pos, len(header))
        memcpy(sink_at(&self.s), <const char *>header, len(header))
        self.s.pos += len(header)
        f.size = len(header)
        if header:
            self.s.unflushed_since_ns = _now_ns()
        return index

    def append(self, bytes record not None, uint32_t caplen=0):
        """Append one record, waiting for room; False when the file has failed.

        The recorder's hot loop does the same in C; this serves tests and tools.
        """
        cdef uint32_t length = <uint32_t>len(record)
        if length > self.s.block_size:
            raise UsageError("a record may not be longer than a block")
        while sink_room(&self.s) < length:
            sink_wait(&self.s, 100000)
        if sink_failed(&self.s):
            self.s.write_dropped += 1
            return False
        memcpy(sink_at(&self.s), <const char *>record, length)
        sink_commit(&self.s, length, caplen)
        return True

    def flush(self):
        """Make what has been appended readable in the file."""
        with nogil:
            sink_reap(&self.s)
            sink_flush(&self.s)

    def finish_file(self):
        """Close the current file to further records; it comes back from collect()."""
        if not self.s.has_file:
            raise ValueError("there is no current file")
        with nogil:
            _finish(&self.s)

    def wait(self, double timeout_s):
        """Wait until nothing is in flight; False when it took longer than that."""
        cdef uint64_t deadline = _now_ns() + <uint64_t>(timeout_s * 1e9)
        with nogil:
            while self.s.flight_count and _now_ns() < deadline:
                sink_wait(&self.s, 10000)
        return self.s.flight_count == 0

    def collect(self):
        """The files that are finished and whole on disk, each once (`FinishedFile`)."""
        cdef uint32_t index
        cdef SinkFile *f
        done = []
        self.s.some_file_done = False
        for index in range(SINK_FILES):
            f = &self.s.files[index]
            if f.used and f.finished and f.in_flight == 0:
                size = f.cut if f.error else f.size
                done.append(FinishedFile(index, size, f.written, f.written_bytes, f.error))
                f.used = False
        return done

    @property
    def mode(self):
        """How files are written: "direct", "buffered", "sync" or "stream"."""
        return {SINK_DIRECT: "direct", SINK_BUFFERED: "buffered", SINK_SYNC: "sync",
                SINK_STREAM: "stream"}[self.s.mode]

    @property
    def counters(self):
        """written, written_bytes (caplens), write_dropped, disk_bytes as a tuple."""
        return self.s.written, self.s.written_bytes, self.s.write_dropped, self.s.disk_bytes

    @property
    def current_error(self):
        """errno of the current file's first failed write, or 0."""
        return self.s.files[self.s.current].error

    @property
    def current_size(self):
        """Bytes encoded to the current file."""
        return self.s.files[self.s.current].size if self.s.has_file else 0

    def close(self):
        """Free the pool and the ring; the caller has waited for the last completion."""
        self._free()

    cdef void _free(self):
        if self.s.has_ring:
            io_uring_queue_exit(&self.s.ring)
            self.s.has_ring = False
        if self.s.base != NULL:
            munmap(self.s.base, 2 * self.s.pool_size)
            self.s.base = NULL
        free(self.s.slots)
        self.s.slots = NULL

    def __dealloc__(self):
        self._free()
