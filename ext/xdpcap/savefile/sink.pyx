"""The file sink, from Python: a pool of blocks and the files they go to.

Purpose: make the pool and the io_uring, open and finish files, collect those whose
last write has completed.  What runs without the GIL is in `savefile.blocks`.
Owner: one worker thread.
Frees: close(), after the last completion.

Source relied on: io_uring_register(2); madvise(2), MADV_HUGEPAGE.
"""

cimport cython
from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from xdpcap.clib.posix cimport (
    CLOCK_MONOTONIC,
    MADV_HUGEPAGE,
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
    madvise,
    mmap,
    munmap,
    pthread_mutex_init,
    pthread_mutex_t,
)
from xdpcap.savefile.blocks cimport (
    SINK_BUFFERED,
    SINK_DIRECT,
    SINK_DISCARD,
    SINK_FILES,
    SINK_STREAM,
    SINK_SYNC,
    Sink,
    SinkFile,
    Slot,
    sink_begin,
    sink_commit,
    sink_failed,
    sink_finish,
    sink_flush,
    sink_reap,
    sink_room,
    sink_wait,
)
from xdpcap.host.clocks cimport clock_ns
from xdpcap.host.forks cimport leave_out_of_forks
from xdpcap.host.stage_times cimport StageTimes
from xdpcap.clib.liburing cimport *

import os
import stat
from collections import namedtuple

from xdpcap.errors import KernelError, UsageError


cdef extern from *:
    """
    #include <sys/vfs.h>
    """
    struct statfs_t "statfs":
        long f_type
    int fstatfs(int fd, statfs_t *out) nogil

cdef enum:
    TMPFS_MAGIC = 0x01021994
    RAMFS_MAGIC = 0x858458f6
    DIRECT_ALIGN = 4096         # bytes; what O_DIRECT asks for on every device in use
    PAGE_BYTES = 4096           # or more: the smallest there is
    HUGE_PAGE_BYTES = 2097152

# Of all blocks; no sum of sizes overflows.
MOST_BYTES = 1 << 46
POOL_HINT = "ask for less with --write-buffer"

FinishedFile = namedtuple("FinishedFile", "index size packets bytes error")
FinishedFile.__doc__ = """A file whose last write has completed.

`index`: as open_file() gave it; `size`: length of the readable part, bytes; `packets`
and `bytes` (caplens) in it; `error`: errno of the first failed write, or 0.
"""


cdef class StreamLock:
    """Keeps the records of several workers whole on one pipe, which ends with its first error."""

    cdef pthread_mutex_t mutex
    cdef int error

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
cdef class FileSink(Held):
    """A pool of blocks and the files they go to.

    Parameters
    ----------
    block_size : int
        Bytes a write, a multiple of 4096; no record may be longer.
    block_count : int
        Blocks in the pool, at least 2: all but one may be in flight.
    mode : str
        "direct", "buffered", "sync" or "stream", as choose_mode() says; "discard" throws
        away what would be written, and takes -1 for a file.
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
        if block_size > MOST_BYTES // block_count:
            raise UsageError(f"{block_count} blocks of {block_size} bytes: {POOL_HINT}")
        self.s.mode = {"direct": SINK_DIRECT, "buffered": SINK_BUFFERED, "sync": SINK_SYNC,
                       "stream": SINK_STREAM, "discard": SINK_DISCARD}[mode]
        self.s.block_size = block_size
        self.s.block_count = block_count
        self.s.pool_size = block_size * block_count
        self._lock_owner = stream_lock
        if stream_lock is not None:
            self.s.stream_lock = &stream_lock.mutex
            self.s.stream_error = &stream_lock.error
        self.s.slots = <Slot *>calloc(block_count, sizeof(Slot))
        if self.s.slots == NULL:
            raise MemoryError
        self._map_pool()
        if self.s.mode in (SINK_DIRECT, SINK_BUFFERED):
            self._make_ring()

    def _map_pool(self):
        """The pool and room for a record behind it, in huge pages where there are any.

        A block in one piece goes to the disk in few requests: of scattered pages a request
        holds as many as the device takes segments, 254 of 4 KiB on virtio_blk.
        """
        cdef size_t size = self.s.pool_size, offset
        cdef size_t length = size + self.s.block_size
        # Aligned, as a huge page has to be.
        cdef size_t slack = HUGE_PAGE_BYTES if size >= HUGE_PAGE_BYTES else 0
        cdef void *whole = mmap(NULL, length + slack, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if whole == MAP_FAILED:
            raise KernelError(f"mmap({length} bytes of blocks)", errno, POOL_HINT)
        self.mapped, self.mapped_bytes = whole, length + slack
        # The kernel reads registered buffers from pages that it has pinned.
        leave_out_of_forks(whole, length + slack, "blocks")
        self.s.base = <unsigned char *>whole
        if slack:
            self.s.base += -<size_t>whole % HUGE_PAGE_BYTES
            madvise(self.s.base, size, MADV_HUGEPAGE)
        # Touched now, the pages cost no fault later.
        for offset in range(0, size, PAGE_BYTES):
            self.s.base[offset] = 0

    def _make_ring(self):
        cdef iovec whole
        cdef int err = io_uring_queue_init(2 * self.s.block_count, &self.s.ring, 0)
        if err < 0:
            # A container or a sysctl (kernel.io_uring_disabled) may forbid it.
            self.s.mode = SINK_SYNC
            return
        self.s.has_ring = True
        err = io_uring_ring_dontfork(&self.s.ring)
        if err:
            raise KernelError("io_uring_ring_dontfork()", err)
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
        self._check_open()
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
        sink_begin(&self.s, index, <uint32_t>len(header))
        memcpy(self.s.out, <const char *>header, len(header))
        self.s.out += len(header)
        self.s.pos += len(header)
        f.size = len(header)
        if header:
            self.s.unflushed_since_ns = self.s.now_ns
        return index

    def append(self, bytes record not None, uint32_t caplen=0):
        """Append one record, waiting for room; False when the file has failed.

        The recorder's hot loop does the same in C; this serves tests and tools.
        """
        cdef uint32_t length = <uint32_t>len(record)
        self._check_open()
        if length > self.s.block_size:
            raise UsageError("a record may not be longer than a block")
        while sink_room(&self.s) < length:
            sink_wait(&self.s, 100000)
        if sink_failed(&self.s):
            self.s.write_dropped += 1
            return False
        self.s.now_ns = clock_ns(CLOCK_MONOTONIC)
        memcpy(self.s.out, <const char *>record, length)
        sink_commit(&self.s, length, caplen)
        return True

    def flush(self):
        """Make what has been appended readable in the file."""
        self._check_open()
        self.hold("flush()")
        with nogil:
            sink_reap(&self.s)
            sink_flush(&self.s)
        self.release("flush()")

    def finish_file(self):
        """Close the current file to further records; it comes back from collect()."""
        self._check_open()
        if not self.s.has_file:
            raise ValueError("there is no current file")
        self.hold("finish_file()")
        with nogil:
            sink_finish(&self.s)
        self.release("finish_file()")

    def wait(self, double timeout_s):
        """Wait until nothing is in flight; False when it took longer than that."""
        cdef uint64_t deadline = clock_ns(CLOCK_MONOTONIC) + <uint64_t>(timeout_s * 1e9)
        self._check_open()
        self.hold("wait()")
        with nogil:
            while self.s.flight_count and clock_ns(CLOCK_MONOTONIC) < deadline:
                sink_wait(&self.s, 10000)
        self.release("wait()")
        return self.s.flight_count == 0

    def abandon(self):
        """Count the packets of blocks that the disk has not taken as write_dropped.

        Their files stay unfinished, and the pool must not be freed: the kernel may
        still read from it.
        """
        cdef Slot *slot
        self._check_open()
        while self.s.tail < self.s.block_start:
            slot = &self.s.slots[(self.s.tail // self.s.block_size) % self.s.block_count]
            self.s.write_dropped += slot.packets - slot.flushed_packets
            self.s.tail += self.s.block_size

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
        """How files are written: "direct", "buffered", "sync" or "stream"; or "discard"."""
        return {SINK_DIRECT: "direct", SINK_BUFFERED: "buffered", SINK_SYNC: "sync",
                SINK_STREAM: "stream", SINK_DISCARD: "discard"}[self.s.mode]

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

    def measure(self, StageTimes times not None):
        """Have the worker's time told by stages from now on; before its loop runs."""
        if self._times is not None:
            # Its loop may be running, and points to them.
            raise ValueError("the sink is measured already")
        self._times = times
        self.s.clocks = &times.clocks

    def close(self):
        """Free the pool and the ring; the caller has waited for the last completion.

        Safe to call again.  ValueError while a loop holds the sink.
        """
        self.require_unheld("the file sink")
        self._free()

    def _check_open(self):
        if self.mapped == NULL:
            raise ValueError("the file sink is closed")

    cdef void _free(self):
        if self.s.has_ring:
            io_uring_queue_exit(&self.s.ring)
            self.s.has_ring = False
        if self.mapped != NULL:
            munmap(self.mapped, self.mapped_bytes)
            self.mapped = NULL
            self.s.base = NULL
        free(self.s.slots)
        self.s.slots = NULL

    def __dealloc__(self):
        self._free()
