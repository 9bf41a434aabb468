from libc.stdint cimport int64_t, uint32_t, uint64_t

from xdpcap.record.loop cimport CaptureState


cdef int64_t utc_offset(int clock) noexcept nogil
cdef void set_offsets(CaptureState *c) noexcept nogil
cdef uint32_t waiting(const CaptureState *c) noexcept nogil
cdef void periodic(CaptureState *c, uint64_t now) noexcept nogil
cdef void wait_for_packets(CaptureState *c, uint64_t now, uint32_t taken) noexcept nogil
