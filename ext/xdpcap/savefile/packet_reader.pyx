"""Capture files as Python objects, packet by packet, through a pcap-filter.

Purpose: let a program look at packets of any linktype, as they were captured.
Owner: one thread a file.
Frees: close(), the descriptor included.

Source relied on: pcap_next_ex(3PCAP); libpcap's bpf_filter.c.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint64_t

from xdpcap.packets.filter.classic_bpf cimport Interpreter
from xdpcap.savefile.libpcap_file cimport *
from xdpcap.clib.libpcap cimport *

cdef enum:
    # Packets that a filter may leave out before signals are looked for.
    SCANNED = 1 << 16


cdef struct PacketReaderState:
    OpenedFile opened
    const bpf_insn *filter      # the interpreter's; NULL takes everything


cdef int _next(PacketReaderState *l, pcap_pkthdr **header, const unsigned char **data) noexcept nogil:
    """The next packet that the filter takes; else as opened_next(), 0 for none so far."""
    cdef int result, i
    for i in range(SCANNED):
        result = opened_next(&l.opened, header, data)
        if result != 1 or l.filter == NULL:
            return result
        if bpf_filter(l.filter, data[0], header[0].len, header[0].caplen):
            return result
    return 0


@cython.no_gc_clear
cdef class PacketReader:
    """Reads one capture file from an open descriptor, which it takes over.

    Parameters
    ----------
    fd, name : int, str
        What to read from, and what to call it in messages.

    `linktype` is libpcap's number (a DLT) and `linktype_name` its name. `ended` tells
    whether the file has been read to its end and `damage` what is wrong with it, or None.
    Raises UsageError for what is no capture file.
    """

    cdef PacketReaderState state
    cdef Interpreter filter     # held, since its instructions are looked at
    cdef readonly str name
    cdef bint reading           # without the GIL
    cdef readonly int linktype
    cdef readonly bint ended
    cdef readonly str damage

    def __cinit__(self, int fd, str name not None):
        self.name = name
        opened_open(&self.state.opened, fd, name)
        self.linktype = pcap_datalink(self.state.opened.pcap)

    def filter_by(self, Interpreter filter not None):
        """From now on count packets that `filter` does not take, and leave them out."""
        self._check_idle()
        self.filter = filter
        self.state.filter = filter.insns

    def read(self, uint64_t max_packets):
        """Up to so many packets, a list of (ts_ns, origlen, bytes); at the end an empty one.

        Waits for the first packet alone: what a pipe holds is handed out before there is more.
        """
        cdef pcap_pkthdr *header = NULL
        cdef const unsigned char *data = NULL
        cdef int result
        cdef list packets = []
        self._check_idle()
        while not self.ended and <uint64_t>len(packets) < max_packets:
            if packets and counted_ahead(&self.state.opened.file) == 0:
                break
            self.reading = True
            with nogil:
                result = _next(&self.state, &header, &data)
            self.reading = False
            opened_interrupted()
            if result == 1:
                packets.append((packet_ts_ns(header), header.len,
                                PyBytes_FromStringAndSize(<const char *>data, header.caplen)))
                continue
            if result == 0:
                PyErr_CheckSignals()
                continue
            self.ended = True
            if result != PCAP_ERROR_BREAK:
                self.damage = opened_damage(&self.state.opened, self.name)
        return packets

    @property
    def linktype_name(self):
        """libpcap's name of the linktype, or its number."""
        return linktype_name(self.linktype)

    @property
    def packet_count(self):
        """Packets read so far, those that the filter left out included."""
        return self.state.opened.number

    def close(self):
        """Close the file; safe to call again.  ValueError while another thread reads it."""
        self._check_idle()
        opened_close(&self.state.opened)
        self.ended = True

    def _check_idle(self):
        if self.reading:
            raise ValueError(f"{self.name} is being read in another thread")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __dealloc__(self):
        opened_close(&self.state.opened)
