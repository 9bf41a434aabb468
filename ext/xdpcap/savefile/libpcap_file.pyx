"""A capture file opened through libpcap: what every reader of one needs.

Purpose: open a descriptor, step from packet to packet, say where and why reading ended.
Owner: one thread a file.
Frees: opened_close(), the descriptor included.

Source relied on: pcap-savefile(5), pcap_next_ex(3PCAP).
"""

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport FILE, fclose
from posix.unistd cimport close

from xdpcap.savefile.byte_counting cimport counted_offset, counted_open
from xdpcap.clib.libpcap cimport *

from xdpcap.errors import KernelError, UsageError

cdef extern from "Python.h":
    # With the error that a signal's handler left behind, which is not Cython's to look for.
    void *pending "PyErr_Occurred"()


cdef int opened_open(OpenedFile *o, int fd, str name) except -1:
    """Open `fd`, which is taken over even when that fails: UsageError for what is no capture.

    `o` must be zero and outlive the file.
    """
    cdef char[256] error
    cdef FILE *file = counted_open(&o.file, fd)
    if file == NULL:
        number = errno
        close(fd)
        raise KernelError(f"fopencookie({name})", number)
    error[0] = 0
    with nogil:
        # A pipe may have nothing yet.
        o.pcap = pcap_fopen_offline_with_tstamp_precision(
            file, PCAP_TSTAMP_PRECISION_NANO, error)
    if o.pcap == NULL:
        empty = counted_offset(&o.file) == 0
        fclose(file)
        opened_interrupted()
        _refuse(name, (<bytes>error).decode("utf-8", "replace"), empty)
    o.last_good = counted_offset(&o.file)
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
        o.last_good = counted_offset(&o.file)
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
