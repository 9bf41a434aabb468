from libc.stdint cimport uint64_t

from xdpcap.savefile.sink_state cimport Sink, Slot


cdef void retire(Sink *s) noexcept nogil
cdef void count_written(Sink *s, const Slot *slot) noexcept nogil
cdef uint64_t readable_end(const Slot *slot) noexcept nogil
