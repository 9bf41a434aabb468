from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from libc.stdio cimport FILE

from xdpcap.clib.libpcap cimport pcap_pkthdr, pcap_t


# A descriptor that libpcap reads through a FILE.
cdef struct CountedFile:
    int fd
    unsigned char *buffer       # the FILE's
    uint64_t read               # bytes that came from the descriptor
    FILE *file


# A capture file that libpcap reads, and how far it has come.
cdef struct OpenedFile:
    pcap_t *pcap
    CountedFile file
    uint64_t number             # packets read, so that of the last one, from 1
    uint64_t last_good          # offset after the header, then after the last whole packet


cdef int opened_open(OpenedFile *o, int fd, str name) except -1
cdef int opened_next(OpenedFile *o, pcap_pkthdr **header,
                     const unsigned char **data) noexcept nogil
cdef int opened_interrupted() except -1
cdef str opened_damage(const OpenedFile *o, str name)
cdef void opened_close(OpenedFile *o) noexcept
cdef uint64_t packet_ts_ns(const pcap_pkthdr *header) noexcept nogil
cdef str linktype_name(int linktype)
cdef size_t counted_ahead(const CountedFile *c) noexcept nogil
