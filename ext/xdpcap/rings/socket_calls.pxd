from libc.stdint cimport uint32_t

from xdpcap.clib.libxdp cimport xdp_statistics


cdef int read_statistics(int fd, xdp_statistics *out) noexcept nogil
cdef int kick_tx(int fd) noexcept nogil
cdef uint32_t raise_tx_budget(int fd, uint32_t batch) noexcept nogil
cdef bint granted_zero_copy(int fd) except? 1
cdef str bind_hint(int number, str interface)
