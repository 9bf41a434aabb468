from libc.stdint cimport uint32_t, uint64_t

from xdpcap.host.held cimport Held
from xdpcap.clib.libxdp cimport xsk_ring_cons, xsk_ring_prod, xsk_umem


# A stack of free frame addresses. Last in, first out: the frame that was used last
# is the one whose lines are still in the cache.
cdef struct FramePool:
    uint64_t *addrs
    uint32_t free_count
    uint32_t frame_count


cdef inline bint pool_take(FramePool *pool, uint64_t *addr) noexcept nogil:
    if pool.free_count == 0:
        return False
    pool.free_count -= 1
    addr[0] = pool.addrs[pool.free_count]
    return True


cdef inline void pool_give(FramePool *pool, uint64_t addr) noexcept nogil:
    # The capacity is the number of frames, so a frame given back always fits.
    pool.addrs[pool.free_count] = addr
    pool.free_count += 1


cdef class Umem(Held):
    cdef xsk_umem *handle
    cdef unsigned char *area
    cdef readonly uint64_t size_bytes
    cdef readonly uint32_t frame_size
    cdef readonly uint32_t frame_count
    cdef readonly bint hugepages
    cdef xsk_ring_prod fill
    cdef xsk_ring_cons completion
    cdef FramePool pool
    cdef readonly uint32_t fill_size
    cdef readonly uint32_t completion_size
    # Of each frame's start, what is the metadata's and not the packet's; 0 but in MetadataUmem.
    cdef readonly uint32_t tx_metadata_len
    cdef int _fill_some(self, uint32_t wanted) except -1
    # The rings that the first attempt to bind asked for: see Xsk._claim().
    cdef uint32_t _rx_size
    cdef uint32_t _tx_size
    cdef bint _bind_tried
    cdef bint _bound
