from xdpcap.libxdp cimport xdp_statistics


cdef int read_statistics(int fd, xdp_statistics *out) noexcept nogil
cdef int kick_tx(int fd) noexcept nogil
cdef bint granted_zero_copy(int fd) except? 1
cdef str bind_hint(int number, str interface)
