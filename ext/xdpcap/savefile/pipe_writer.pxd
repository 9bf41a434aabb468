from libc.stdint cimport uint64_t


cdef int stream_out(int fd, const unsigned char *data, uint64_t length, uint64_t *written,
                    int *stop_flag) noexcept nogil
