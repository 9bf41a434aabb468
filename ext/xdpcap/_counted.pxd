from libc.stdint cimport uint64_t
from libc.stdio cimport FILE


# A descriptor that libpcap reads through a FILE, byte by counted byte.
cdef struct CountedFile:
    int fd
    unsigned char *buffer
    size_t at                   # of the next byte in the buffer
    size_t end
    uint64_t offset             # bytes handed out, from where the descriptor stood


cdef FILE *counted_open(CountedFile *c, int fd) noexcept nogil
