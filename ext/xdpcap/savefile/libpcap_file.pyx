"""A capture file opened through libpcap: what every reader of one needs.

Purpose: open a descriptor, step from packet to packet, say where and why reading ended.
Owner: one thread a file.
Frees: opened_close(), the descriptor and the buffer included.

libpcap reads a stdio FILE that counts what is read from its descriptor, because ftell() fails
on a pipe: what was handed out is what was read less what still lies in the FILE's buffer.  The
FILE is given a large buffer: without one glibc asks a cookie for single bytes
(_IO_default_xsgetn in libio/genops.c), and it ignores a length that comes without a buffer.

Source relied on: pcap-savefile(5), pcap_next_ex(3PCAP); fopencookie(3), setvbuf(3); glibc's
libio/iofopncook.c and bits/types/struct_FILE.h.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport FILE, fclose
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from xdpcap.clib.libpcap cimport *
from xdpcap.clib.posix cimport close_fd, read

from xdpcap.errors import KernelError, UsageError


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
    # Without Cython's check: the error that a signal's handler raised stays set while C code
    # returns to opened_interrupted(), which looks for it.
    int check_signals "PyErr_CheckSignals"() noexcept
    void *pending "PyErr_Occurred"()

cdef enum:
    BUFFER_BYTES = 1 << 18
    PCAP_HEADER = 24
    SNAPLEN_AT = 16


# ---------------------------------------------------------------- a FILE that counts

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
    return close_fd(c.fd)


cdef uint64_t _offset(const CountedFile *c) noexcept nogil:
    """Bytes handed out so far, from where the descriptor stood."""
    return c.read - counted_ahead(c)


cdef size_t counted_ahead(const CountedFile *c) noexcept nogil:
    """Bytes that were read and not handed out yet."""
    return 0 if c.file == NULL else ahead(c.file)


cdef FILE *_open(CountedFile *c, int fd) noexcept nogil:
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


# ---------------------------------------------------------------- the capture file

cdef int opened_open(OpenedFile *o, int fd, str name) except -1:
    """Open `fd`, which is taken over even when that fails: UsageError for what is no capture.

    `o` must be zero and outlive the file.
    """
    cdef char[256] error
    cdef FILE *file = _open(&o.file, fd)
    if file == NULL:
        number = errno
        close_fd(fd)
        raise KernelError(f"fopencookie({name})", number)
    error[0] = 0
    with nogil:
        # A pipe may have nothing yet.
        o.pcap = pcap_fopen_offline_with_tstamp_precision(
            file, PCAP_TSTAMP_PRECISION_NANO, error)
    if o.pcap == NULL:
        empty = _offset(&o.file) == 0
        fclose(file)
        opened_interrupted()
        _refuse(name, (<bytes>error).decode("utf-8", "replace"), empty)
    o.last_good = _offset(&o.file)
    return 0


cdef _refuse(str name, str said, bint empty):
    if empty and "error reading" not in said:
        raise UsageError(f"{name}: empty; name a capture file")
    raise UsageError(f"{name}: not a capture file ({said})")


cdef int opened_next(OpenedFile *o, pcap_pkthdr **header,
                     const unsigned char **data) noexcept nogil:
    """The next packet: 1, or PCAP_ERROR_BREAK at the end, PCAP_ERROR at what can't be read."""
    cdef int result = 0
    while result == 0:
        result = pcap_next_ex(o.pcap, header, data)
    if result == 1:
        o.number += 1
        o.last_good = _offset(&o.file)
    return result


cdef int opened_interrupted() except -1:
    """Raise what a signal's handler raised while libpcap was reading, if one did."""
    return 0 if pending() == NULL else -1


cdef str opened_damage(const OpenedFile *o, str name):
    """One line on why reading ended; the offset is where the last whole packet ends."""
    said = (<bytes>pcap_geterr(o.pcap)).decode("utf-8", "replace")
    where = f"offset {o.last_good}, after packet {o.number}"
    if "different from the" not in said:
        return f"{name}: damaged at {where}: {said}"
    # libpcap reads one linktype and one snaplen a file.
    way_out = ("`tshark -r FILE -F pcap -w NEW` makes them one" if "length" in said else
               "put the Ethernet interfaces' packets into a file of their own")
    return f"{name}: can't be read beyond {where}: {said}; {way_out}"


cdef void opened_close(OpenedFile *o) noexcept:
    """Close the file; safe to call again."""
    if o.pcap != NULL:
        pcap_close(o.pcap)
        o.pcap = NULL


cdef uint64_t packet_ts_ns(const pcap_pkthdr *header) noexcept nogil:
    """The time of a packet in nanoseconds since 1970."""
    cdef int64_t seconds = header.ts.tv_sec
    if seconds < 0:
        # A pcap record's seconds are unsigned and end in 2106; libpcap takes them as signed.
        seconds += <int64_t>1 << 32
    # Unsigned, so that nonsense wraps around.
    return <uint64_t>seconds * 1000000000 + <uint64_t>header.ts.tv_usec


cdef str linktype_name(int linktype):
    """libpcap's name of a DLT, or its number."""
    cdef const char *name = pcap_datalink_val_to_name(linktype)
    return str(linktype) if name == NULL else (<bytes>name).decode()
