"""A descriptor as a stdio FILE that knows exactly how much was read from it.

Purpose: tell where a record begins in what can't be asked, such as a pipe; and read in
large pieces.
Owner: one thread at a time.
Frees: fclose() of the FILE, the descriptor and the buffer included.

ftell() fails on a pipe.  What was handed out is what was read from the descriptor less what
still lies in the FILE's buffer.  The buffer is given to the FILE: without one glibc asks a
cookie for single bytes (_IO_default_xsgetn in libio/genops.c), and of a length without a
buffer it takes no notice.

Source relied on: fopencookie(3), setvbuf(3); glibc's libio/iofopncook.c and bits/types/struct_FILE.h.
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
    int _IOFBF

cdef extern from *:
    """
    #include <stdio.h>
    /* Bytes that were read ahead; the members are public in glibc's header, and nowhere else. */
    #define xdpcap_ahead(file) ((size_t)((file)->_IO_read_end - (file)->_IO_read_ptr))
    """
    size_t ahead "xdpcap_ahead"(const FILE *file) nogil

cdef extern from "Python.h":
    # Without Cython's check: the error stays set while C code returns to who looks for it.
    int check_signals "PyErr_CheckSignals"() noexcept

cdef enum:
    BUFFER_BYTES = 1 << 18
    PCAP_HEADER = 24
    SNAPLEN_AT = 16


cdef void _forget_snaplen(unsigned char *header) noexcept nogil:
    """Let libpcap have whole packets, even where the header promises shorter ones.

    It cuts a packet that is longer than a pcap header's snaplen; 0 means none, in either
    byte order.
    """
    cdef uint32_t magic = 0
    memcpy(&magic, header, 4)
    if magic in (<uint32_t>0xA1B2C3D4, <uint32_t>0xD4C3B2A1,
                 <uint32_t>0xA1B23C4D, <uint32_t>0x4D3CB2A1):
        memset(header + SNAPLEN_AT, 0, 4)


cdef bint _signal_raises() noexcept nogil:
    """Run the handlers of signals that came; whether one raised, which the reader passes on.

    Handlers are run by the main thread alone; in any other there is nothing to do.
    """
    with gil:
        return check_signals() != 0


cdef ssize_t _read_some(int fd, char *buf, size_t size) noexcept nogil:
    cdef ssize_t got
    while True:
        got = read(fd, buf, size)
        if got >= 0 or errno != EINTR:
            return got
        # A pipe may stay silent for ever: Ctrl-C must not wait for its next packet.
        if _signal_raises():
            return -1


cdef ssize_t _read(void *cookie, char *buf, size_t size) noexcept nogil:
    """Read a piece; 0 at the end, -1 and errno when that fails."""
    cdef CountedFile *c = <CountedFile *>cookie
    cdef bint first = c.read == 0
    cdef size_t whole = 0
    cdef ssize_t got
    while True:
        got = _read_some(c.fd, buf + whole, size - whole)
        if got < 0 and whole == 0:
            return -1
        if got > 0:
            whole += <size_t>got
        # The header has to be whole to be looked at.
        if got <= 0 or not first or whole >= PCAP_HEADER:
            break
    if first and whole >= PCAP_HEADER:
        _forget_snaplen(<unsigned char *>buf)
    c.read += whole
    return <ssize_t>whole


cdef int _close(void *cookie) noexcept nogil:
    cdef CountedFile *c = <CountedFile *>cookie
    # fclose() looks at the buffer no more once it has closed the cookie.
    free(c.buffer)
    c.buffer = NULL
    c.file = NULL
    return close(c.fd)


cdef uint64_t counted_offset(const CountedFile *c) noexcept nogil:
    """Bytes handed out so far, from where the descriptor stood."""
    return c.read - counted_ahead(c)


cdef size_t counted_ahead(const CountedFile *c) noexcept nogil:
    """Bytes that were read and not handed out yet."""
    return 0 if c.file == NULL else ahead(c.file)


cdef FILE *counted_open(CountedFile *c, int fd) noexcept nogil:
    """Open a FILE over `fd`, which it takes; NULL and errno when that fails.

    `c` must outlive the FILE.
    """
    cdef cookie_io_functions_t functions
    memset(c, 0, sizeof(c[0]))
    memset(&functions, 0, sizeof(functions))
    functions.read = _read
    functions.close = _close
    c.fd = fd
    c.buffer = <unsigned char *>malloc(BUFFER_BYTES)
    if c.buffer == NULL:
        return NULL
    c.file = fopencookie(c, b"rb", functions)
    if c.file == NULL:
        free(c.buffer)
        c.buffer = NULL
    else:
        setvbuf(c.file, <char *>c.buffer, _IOFBF, BUFFER_BYTES)
    return c.file
