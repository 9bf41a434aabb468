from libc.stdint cimport uint32_t, uint64_t

from xdpcap.record.state cimport CaptureState, Reason


cdef Reason mirror_batch(CaptureState *c, uint32_t want, uint32_t *taken) noexcept nogil
cdef void mirror_discard(CaptureState *c) noexcept nogil
cdef void mirror_abandon(CaptureState *c) noexcept nogil
