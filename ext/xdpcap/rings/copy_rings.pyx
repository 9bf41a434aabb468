"""Rings that the program copies packets into (mirror mode), and how they are read.

Purpose: make a queue's rings, a BPF ring buffer or a perf ring for each CPU, map them,
and find the packets in them without a system call.
Owner: one worker thread a CopyRing; other threads may ask what is waiting.
Frees: close().  The program may hold the rings until it is unloaded.

Source relied on: Documentation/bpf/ringbuf.rst; kernel/bpf/ringbuf.c; perf_event_open(2);
include/uapi/linux/perf_event.h.
"""

cimport cython
from libc.errno cimport errno
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from xdpcap.clib.atomic cimport (
    __ATOMIC_ACQUIRE,
    __ATOMIC_RELAXED,
    __ATOMIC_RELEASE,
    atomic_load_u32,
    atomic_load_u64,
    atomic_store_u64,
)
from xdpcap.clib.posix cimport (
    CLOCK_MONOTONIC,
    MAP_FAILED,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
    _SC_PAGESIZE,
    close_fd,
    mmap,
    munmap,
    sysconf,
)
from xdpcap.host.forks cimport leave_out_of_forks
from xdpcap.clib.libbpf cimport BPF_MAP_TYPE_RINGBUF, bpf_map_create

import errno as _errno
import os

from xdpcap.errors import KernelError
from xdpcap.host.kernel import possible_cpu_count


cdef extern from *:
    """
    #include <linux/bpf.h>
    #include <linux/perf_event.h>
    #include <sys/ioctl.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    static int xdpcap_perf_ring(int cpu, int clock) {
        struct perf_event_attr attr = {
            .type = PERF_TYPE_SOFTWARE,
            .size = sizeof(attr),
            .config = PERF_COUNT_SW_BPF_OUTPUT,
            .sample_type = PERF_SAMPLE_RAW,
            .sample_period = 1,
            /* Nobody is woken: the worker looks by itself. */
            .watermark = 1,
            .wakeup_watermark = 0x7fffffff,
        };
        if (clock >= 0) {
            attr.sample_type |= PERF_SAMPLE_TIME;
            attr.use_clockid = 1;
            attr.clockid = clock;
        }
        return syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    }
    static int xdpcap_perf_enable(int fd) { return ioctl(fd, PERF_EVENT_IOC_ENABLE, 0); }
    typedef struct perf_event_mmap_page xdpcap_perf_page;
    """
    int perf_ring "xdpcap_perf_ring"(int cpu, int clock) nogil
    int perf_enable "xdpcap_perf_enable"(int fd) nogil
    struct perf_event_mmap_page:
        uint64_t data_head
        uint64_t data_tail
    struct perf_event_header:
        uint32_t type
        uint16_t misc
        uint16_t size
    uint32_t PERF_RECORD_SAMPLE
    uint32_t BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT

cdef enum:
    RINGBUF_HEADER = 8          # struct bpf_ringbuf_hdr: length and flags, then pages
    PERF_HEADER = 8             # perf_event_header; a time, where it was asked for
    PERF_TIME = 8
    PERF_RAW_LENGTH = 4         # of what was copied
    PERF_LONGEST = 65536        # perf_event_header.size has 16 bits


# ---------------------------------------------------------------- finding a packet

cdef bint _find_in_ringbuf(Lane *lane, xdpcap_copy *head, const unsigned char **packet) noexcept nogil:
    cdef uint64_t end = atomic_load_u64(lane.producer, __ATOMIC_ACQUIRE)
    cdef uint32_t length
    cdef unsigned char *record
    while lane.position < end:
        record = lane.data + (lane.position & lane.mask)
        length = atomic_load_u32(<const uint32_t *>record, __ATOMIC_ACQUIRE)
        if length & BPF_RINGBUF_BUSY_BIT:
            # Reserved and not yet written; what follows it has to wait.
            return False
        lane.next = lane.position + ((
            (length & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT)) + RINGBUF_HEADER + 7)
            & ~<uint64_t>7)
        if not length & BPF_RINGBUF_DISCARD_BIT:
            memcpy(head, record + RINGBUF_HEADER, sizeof(xdpcap_copy))
            packet[0] = record + RINGBUF_HEADER + sizeof(xdpcap_copy)
            return True
        lane.position = lane.next
    return False


cdef bint _find_in_perf(Lane *lane, bint stamped, unsigned char *straight, xdpcap_copy *head,
                        const unsigned char **packet) noexcept nogil:
    cdef uint64_t end = atomic_load_u64(lane.producer, __ATOMIC_ACQUIRE)
    cdef uint64_t at, first
    cdef perf_event_header *header
    cdef unsigned char *record
    cdef unsigned char *raw
    while lane.position < end:
        # A record's length is a multiple of 8, so a header is never torn.
        at = lane.position & lane.mask
        record = lane.data + at
        header = <perf_event_header *>record
        lane.next = lane.position + header.size
        if header.type == PERF_RECORD_SAMPLE:
            first = lane.mask + 1 - at
            if first < header.size:
                memcpy(straight, record, first)
                memcpy(straight + first, lane.data, header.size - first)
                record = straight
            raw = record + PERF_HEADER + PERF_RAW_LENGTH + (PERF_TIME if stamped else 0)
            memcpy(head, raw, sizeof(xdpcap_copy))
            if stamped:
                memcpy(&head.meta.ts_ns, record + PERF_HEADER, PERF_TIME)
            packet[0] = raw + sizeof(xdpcap_copy)
            return True
        # What was lost the program counts, too: PERF_RECORD_LOST says nothing new.
        lane.position = lane.next
    return False


cdef bint find_copy(CopyRings *r, xdpcap_copy *head, const unsigned char **packet) noexcept nogil:
    """The oldest packet in the rings: its head and where its bytes are; False: none is there.

    The same packet until take_copy().  Among several rings it is the one with the smallest
    time, of those that can be seen now.
    """
    cdef xdpcap_copy other
    cdef const unsigned char *there = NULL
    cdef Lane *lane
    cdef uint32_t i
    if not r.perf:
        r.found = r.lanes
        return _find_in_ringbuf(r.lanes, head, packet)
    r.found = NULL
    for i in range(r.lane_count):
        lane = &r.lanes[i]
        if lane.position == atomic_load_u64(lane.producer, __ATOMIC_RELAXED):
            continue
        # Each ring has its own room to be put straight in.
        if not _find_in_perf(lane, r.stamped, r.straight + <size_t>i * PERF_LONGEST, &other, &there):
            continue
        if r.found == NULL or other.meta.ts_ns < head.meta.ts_ns:
            r.found, head[0], packet[0] = lane, other, there
    return r.found != NULL


cdef void take_copy(CopyRings *r) noexcept nogil:
    """Go on behind the packet that was found last; its bytes stay until release_copies()."""
    r.taken += r.found.next - r.found.position
    r.packet_count += 1
    r.found.position = r.found.next


cdef void release_copies(CopyRings *r) noexcept nogil:
    """Give the room of what was taken back to the kernel."""
    cdef uint32_t i
    for i in range(r.lane_count):
        atomic_store_u64(r.lanes[i].consumer, r.lanes[i].position, __ATOMIC_RELEASE)


cdef uint64_t bytes_waiting(const CopyRings *r) noexcept nogil:
    """Bytes in the rings that have not been taken; from any thread."""
    cdef uint64_t waiting = 0
    cdef uint32_t i
    for i in range(r.lane_count):
        waiting += (atomic_load_u64(r.lanes[i].producer, __ATOMIC_RELAXED)
                    - atomic_load_u64(r.lanes[i].consumer, __ATOMIC_RELAXED))
    return waiting


cdef uint32_t newly_lost(CopyRings *r, const xdpcap_copy *head) noexcept nogil:
    """Packets that the copying CPU had no room for since its last copy."""
    cdef uint32_t lost
    if head.cpu >= r.cpu_count:
        return 0
    lost = head.lost - r.lost_seen[head.cpu]
    r.lost_seen[head.cpu] = head.lost
    return lost


# ---------------------------------------------------------------- making the rings

@cython.no_gc_clear
cdef class CopyRing(Held):
    """The rings of one queue, for `Program.bind_ring()` and a `Capture`.

    Parameters
    ----------
    queue : int
        The receive queue whose packets are copied.
    size : int
        Bytes, a power of two and at least a page: of the ring, or of all perf rings of
        the queue together.
    perf : bool
        Perf rings, one a CPU, instead of a BPF ring buffer (kernel 5.8).
    stamped : bool
        Of perf rings: the kernel stamps each packet (CLOCK_MONOTONIC) as it puts it in, for a
        program that can't.

    `descriptors` has a (number, file descriptor) pair a ring, `rx_size` is its size in bytes,
    `fd` what poll(2) waits on, -1 where there is nothing to wait on.  Raises KernelError.
    """

    def __cinit__(self, uint32_t queue, uint64_t size, *, bint perf=False, bint stamped=False):
        cdef int cpus = possible_cpu_count()
        self.fd = -1
        self.queue = queue
        self.descriptors = []
        self.r.perf = perf
        self.r.stamped = stamped
        self.r.cpu_count = cpus
        self.r.lost_seen = <uint32_t *>calloc(cpus, sizeof(uint32_t))
        self.r.lanes = <Lane *>calloc(cpus if perf else 1, sizeof(Lane))
        if self.r.lost_seen == NULL or self.r.lanes == NULL:
            raise MemoryError
        if perf:
            self._make_perf(cpus, size)
        else:
            self._make_ringbuf(size)
        self.rx_size = self.r.size

    @property
    def count(self):
        """How many rings a queue can have: entries of the program's map for each queue."""
        self._check_open()
        return self.r.cpu_count if self.r.perf else 1

    def _make_ringbuf(self, uint64_t size):
        cdef int page = os.sysconf("SC_PAGESIZE")
        cdef Lane *lane = self.r.lanes
        self.fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, b"xdpcap_ring", 0, 0, <uint32_t>size, NULL)
        if self.fd < 0:
            raise KernelError(f"bpf_map_create(ringbuf, {size} bytes)", self.fd,
                              "lower --mirror-size")
        self.descriptors.append((0, self.fd))
        # Pages: ours, the kernel's, then the data twice in a row, so that no packet is torn.
        lane.base = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, self.fd, 0)
        if lane.base == MAP_FAILED:
            lane.base = NULL
            raise KernelError("mmap(ring buffer)", errno)
        leave_out_of_forks(lane.base, page, "ring buffer")
        lane.consumer = <uint64_t *>lane.base
        lane.producer = <uint64_t *>mmap(NULL, page + 2 * size, PROT_READ, MAP_SHARED, self.fd,
                                         page)
        if <void *>lane.producer == MAP_FAILED:
            lane.producer = NULL
            raise KernelError("mmap(ring buffer)", errno)
        lane.mapped = page + 2 * size
        leave_out_of_forks(lane.producer, lane.mapped, "ring buffer")
        lane.data = <unsigned char *>lane.producer + page
        lane.mask = size - 1
        self.r.lane_count = 1
        self.r.size = size

    def _make_perf(self, int cpus, uint64_t size):
        cdef int cpu
        cdef uint64_t share = os.sysconf("SC_PAGESIZE")
        while share * 2 * os.sysconf("SC_NPROCESSORS_ONLN") <= size:
            share *= 2
        self.r.straight = <unsigned char *>calloc(cpus, PERF_LONGEST)
        if self.r.straight == NULL:
            raise MemoryError
        for cpu in range(cpus):
            self._make_perf_lane(cpu, share)

    def _make_perf_lane(self, int cpu, uint64_t size):
        """A ring of `size` bytes for a CPU; none for one that is offline."""
        cdef int page = os.sysconf("SC_PAGESIZE")
        cdef Lane *lane = &self.r.lanes[self.r.lane_count]
        cdef perf_event_mmap_page *head
        cdef int fd = perf_ring(cpu, CLOCK_MONOTONIC if self.r.stamped else -1)
        if fd < 0 and errno == _errno.ENODEV:
            return
        if fd < 0:
            raise KernelError(f"perf_event_open(CPU {cpu})", errno, "needs CAP_PERFMON or root")
        self.descriptors.append((cpu, fd))
        lane.mapped = page + size
        lane.base = mmap(NULL, lane.mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if lane.base == MAP_FAILED:
            lane.base = NULL
            raise KernelError(f"mmap(perf ring, {size} bytes)", errno, "lower --mirror-size")
        leave_out_of_forks(lane.base, lane.mapped, "perf ring")
        head = <perf_event_mmap_page *>lane.base
        lane.producer = &head.data_head
        lane.consumer = &head.data_tail
        lane.data = <unsigned char *>lane.base + page
        lane.mask = size - 1
        self.r.lane_count += 1
        self.r.size += size
        if perf_enable(fd):
            raise KernelError(f"PERF_EVENT_IOC_ENABLE(CPU {cpu})", errno)

    @property
    def waiting(self):
        """Bytes in the rings that have not been taken."""
        self._check_open()
        return bytes_waiting(&self.r)

    cdef int _check_open(self) except -1:
        if self.r.lanes == NULL:
            raise ValueError("the rings of copies are closed")
        return 0

    def empty(self):
        """Throw away what is left in the rings; how many packets were in them from the start on."""
        cdef xdpcap_copy head
        cdef const unsigned char *packet = NULL
        self._check_open()
        while find_copy(&self.r, &head, &packet):
            take_copy(&self.r)
        release_copies(&self.r)
        return self.r.packet_count

    def close(self):
        """Unmap and close; safe to call again.  ValueError while a loop holds them."""
        self.require_unheld(f"queue {self.queue}'s rings of copies")
        self._free()

    cdef _free(self):
        cdef Lane *lane
        cdef uint32_t i
        cdef uint32_t lanes = (self.r.cpu_count if self.r.perf else 1) if self.r.lanes != NULL else 0
        for i in range(lanes):
            lane = &self.r.lanes[i]
            if not self.r.perf and lane.producer != NULL:
                munmap(<void *>lane.producer, lane.mapped)
                munmap(lane.base, sysconf(_SC_PAGESIZE))
            elif lane.base != NULL:
                munmap(lane.base, lane.mapped if self.r.perf else sysconf(_SC_PAGESIZE))
        free(self.r.lanes)
        free(self.r.lost_seen)
        free(self.r.straight)
        memset(&self.r, 0, sizeof(self.r))
        for _, fd in self.descriptors:
            close_fd(fd)
        self.descriptors = []
        self.fd = -1

    def __dealloc__(self):
        # Before __cinit__ there is no list, and nothing else.
        if self.descriptors is not None:
            self._free()
