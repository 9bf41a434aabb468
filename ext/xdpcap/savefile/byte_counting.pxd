from libc.stdint cimport uint64_t
from libc.stdio cimport FILE


# A descriptor that libpcap reads through a FILE.
cdef struct CountedFile:
    int fd
    unsigned char *buffer       # the FILE's
    uint64_t read               # bytes that came from the descriptor
    FILE *file


cdef FILE *counted_open(CountedFile *c, int fd) noexcept nogil
cdef uint64_t counted_offset(const CountedFile *c) noexcept nogil
cdef size_t counted_ahead(const CountedFile *c) noexcept nogil
