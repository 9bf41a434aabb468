from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from xdpcap.clib.abi cimport xdpcap_copy
from xdpcap.host.held cimport Held


# One ring in memory that the kernel writes.
cdef struct Lane:
    uint64_t *producer      # where the kernel writes next, bytes since the start
    uint64_t *consumer      # up to where we have read
    unsigned char *data
    uint64_t mask           # its size is a power of two
    uint64_t position       # as `consumer`, not yet told to the kernel
    uint64_t next           # behind the packet that was found last
    void *base
    size_t mapped


# The rings of one queue: a BPF ring buffer, or a perf ring for each CPU.
cdef struct CopyRings:
    bint perf
    uint32_t lane_count
    Lane *lanes
    Lane *found             # where the packet lies that was found last
    uint32_t cpu_count
    uint32_t *lost_seen     # by CPU: what its last copy said
    bint stamped            # the kernel has stamped the samples, not the program
    unsigned char *straight # room for a perf sample that runs over the ring's end
    uint64_t size           # bytes, all lanes together
    uint64_t taken          # bytes since the worker last looked
    uint64_t packet_count   # taken from the start on


cdef bint find_copy(CopyRings *r, xdpcap_copy *head, const unsigned char **packet) noexcept nogil
cdef void take_copy(CopyRings *r) noexcept nogil
cdef void release_copies(CopyRings *r) noexcept nogil
cdef uint64_t bytes_waiting(const CopyRings *r) noexcept nogil
cdef uint32_t newly_lost(CopyRings *r, const xdpcap_copy *head) noexcept nogil


cdef class CopyRing(Held):
    cdef CopyRings r
    cdef readonly list descriptors
    cdef readonly uint32_t queue
    cdef readonly uint64_t rx_size
    cdef readonly int fd
    cdef int _check_open(self) except -1
    cdef _free(self)
