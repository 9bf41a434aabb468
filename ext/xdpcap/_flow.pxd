from libc.stdint cimport uint32_t


cdef uint32_t flow_hash(const unsigned char *data, uint32_t length) noexcept nogil
