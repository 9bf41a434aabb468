from libc.stdint cimport uint16_t, uint32_t, uint64_t

from xdpcap.host.held cimport Held


# One packet of a set.  What is not to be sent never becomes an entry.
cdef struct Entry:
    uint64_t ts_ns          # as recorded, since the epoch
    uint64_t offset         # of its first byte in PacketList.bytes
    uint32_t length
    uint32_t hash           # of its flow, the same in both directions; 0 when it has none
    uint64_t number         # counted from 1 over all files, as tcpdump and Wireshark do


cdef struct PacketList:
    unsigned char *bytes
    uint64_t bytes_used
    uint64_t bytes_room
    Entry *entries
    uint64_t count
    uint64_t room


cdef int list_append(PacketList *list, const unsigned char *data, uint32_t length,
                     uint64_t ts_ns, uint64_t number) noexcept nogil
cdef int list_widen(PacketList *list, uint32_t extra) noexcept nogil
cdef void list_clear(PacketList *list) noexcept nogil
cdef void list_free(PacketList *list) noexcept nogil


cdef class PacketSet(Held):
    cdef PacketList list
    cdef int require_writable(self) except -1
