"""A descriptor as a stdio FILE that knows exactly how much was read from it.

Purpose: tell where a record begins in what can't be asked, such as a pipe; and read in
large pieces.
Owner: one thread at a time.
Frees: fclose() of the FILE, the descriptor and the buffer included.

ftell() fails on a pipe, and a stdio buffer runs ahead of its reader.  The FILE has no
buffer of its own here: glibc then asks the cookie for just the bytes that fread() wants.

Source relied on: fopencookie(3), setvbuf(3); _IO_file_xsgetn in glibc's libio/fileops.c.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport FILE
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.unistd cimport close, read

cdef extern from "<stdio.h>" nogil:
    ctypedef long long off64_t
    ctypedef struct cookie_io_functions_t:
        ssize_t (*read)(void *cookie, char *buf, size_t size) noexcept nogil
        ssize_t (*write)(void *cookie, const char *buf, size_t size) noexcept nogil
        int (*seek)(void *cookie, off64_t *offset, int whence) noexcept nogil
        int (*close)(void *cookie) noexcept nogil

    FILE *fopencookie(void *cookie, const char *mode, cookie_io_functions_t functions)
    int setvbuf(FILE *stream, char *buf, int mode, size_t size)
    int _IONBF

cdef enum:
    BUFFER_BYTES = 1 << 18
    PCAP_HEADER = 24
    SNAPLEN_AT = 16


cdef void _forget_snaplen(CountedFile *c) noexcept nogil:
    """Let libpcap have whole packets, even where the header promises shorter ones.

    It cuts a packet that is longer than a pcap header's snaplen; 0 means none, in either
    byte order.
    """
    cdef uint32_t magic = 0
    if c.end < PCAP_HEADER:
        return
    memcpy(&magic, c.buffer, 4)
    if magic in (<uint32_t>0xA1B2C3D4, <uint32_t>0xD4C3B2A1,
                 <uint32_t>0xA1B23C4D, <uint32_t>0x4D3CB2A1):
        memset(c.buffer + SNAPLEN_AT, 0, 4)


cdef ssize_t _fill(CountedFile *c) noexcept nogil:
    """Read a piece; 0 at the end, -1 and errno when that fails."""
    cdef bint first = c.offset == 0 and c.end == 0
    cdef ssize_t got
    c.at = c.end = 0
    while True:
        got = read(c.fd, c.buffer + c.end, BUFFER_BYTES - c.end)
        if got < 0 and errno == EINTR:
            continue
        if got < 0 and c.end == 0:
            return -1
        if got > 0:
            c.end += <size_t>got
        # The header has to be whole to be looked at.
        if got <= 0 or not first or c.end >= PCAP_HEADER:
            break
    if first:
        _forget_snaplen(c)
    return <ssize_t>c.end


cdef ssize_t _read(void *cookie, char *buf, size_t size) noexcept nogil:
    cdef CountedFile *c = <CountedFile *>cookie
    cdef ssize_t got
    if c.at == c.end:
        got = _fill(c)
        if got <= 0:
            return got
    if size > c.end - c.at:
        size = c.end - c.at
    memcpy(buf, c.buffer + c.at, size)
    c.at += size
    c.offset += size
    return <ssize_t>size


cdef int _close(void *cookie) noexcept nogil:
    cdef CountedFile *c = <CountedFile *>cookie
    free(c.buffer)
    c.buffer = NULL
    return close(c.fd)


cdef FILE *counted_open(CountedFile *c, int fd) noexcept nogil:
    """Open a FILE over `fd`, which it takes; NULL and errno when that fails.

    `c` must outlive the FILE.
    """
    cdef cookie_io_functions_t functions
    cdef FILE *file
    memset(c, 0, sizeof(c[0]))
    memset(&functions, 0, sizeof(functions))
    functions.read = _read
    functions.close = _close
    c.fd = fd
    c.buffer = <unsigned char *>malloc(BUFFER_BYTES)
    if c.buffer == NULL:
        return NULL
    file = fopencookie(c, b"rb", functions)
    if file == NULL:
        free(c.buffer)
        c.buffer = NULL
    else:
        setvbuf(file, NULL, _IONBF, 0)
    return file
