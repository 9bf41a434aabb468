"""Packets in memory, ready to be sent: bytes in one piece, an entry each.

Purpose: what the reader fills, the rewriter edits and the sender sends.
Owner: one thread at a time; a set is handed on whole.
Frees: the PacketSet, with everything in it.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from xdpcap.packets.flow cimport flow_hash

cdef enum:
    FIRST_BYTES = 1 << 20
    FIRST_ENTRIES = 1 << 12
    # Frames start on a cache line, so that copies from here are aligned.
    ALIGN = 64


cdef inline uint64_t _aligned(uint64_t size) noexcept nogil:
    return (size + ALIGN - 1) & ~<uint64_t>(ALIGN - 1)


cdef bint _grow(PacketList *list, uint64_t bytes_wanted) noexcept nogil:
    cdef uint64_t room
    cdef void *moved
    if list.count == list.room:
        room = list.room * 2 if list.room else FIRST_ENTRIES
        moved = realloc(list.entries, room * sizeof(Entry))
        if moved == NULL:
            return False
        list.entries = <Entry *>moved
        list.room = room
    if bytes_wanted > list.bytes_room:
        room = list.bytes_room if list.bytes_room else FIRST_BYTES
        while room < bytes_wanted:
            room *= 2
        moved = realloc(list.bytes, room)
        if moved == NULL:
            return False
        list.bytes = <unsigned char *>moved
        list.bytes_room = room
    return True


cdef int list_append(PacketList *list, const unsigned char *data, uint32_t length,
                     uint64_t ts_ns, uint64_t number) noexcept nogil:
    """Copy a packet to the end; 0, or -1 when there is no memory."""
    cdef uint64_t start = _aligned(list.bytes_used)
    cdef Entry *entry
    if not _grow(list, start + length):
        return -1
    memcpy(list.bytes + start, data, length)
    entry = &list.entries[list.count]
    entry.ts_ns = ts_ns
    entry.offset = start
    entry.length = length
    entry.number = number
    entry.hash = flow_hash(list.bytes + start, length)
    list.bytes_used = start + length
    list.count += 1
    return 0


cdef int list_widen(PacketList *list, uint32_t extra) noexcept nogil:
    """Make room for `extra` bytes behind each packet; 0, or -1 when there is no memory.

    Lengths stay; an edit that makes packets longer by no more than that can follow.
    """
    cdef uint64_t i, shift = 0, end
    cdef Entry *entry
    for i in range(list.count):
        entry = &list.entries[i]
        shift += _aligned(<uint64_t>entry.length + extra) - _aligned(entry.length)
    end = _aligned(list.bytes_used) + shift
    if not _grow(list, end):
        return -1
    # From the last to the first: none is moved over one that has not moved yet.
    for i in range(list.count, 0, -1):
        entry = &list.entries[i - 1]
        shift -= _aligned(<uint64_t>entry.length + extra) - _aligned(entry.length)
        memmove(list.bytes + entry.offset + shift, list.bytes + entry.offset, entry.length)
        entry.offset += shift
    list.bytes_used = end
    return 0


cdef void list_clear(PacketList *list) noexcept nogil:
    """Forget the packets, keep the memory."""
    list.count = 0
    list.bytes_used = 0


cdef void list_free(PacketList *list) noexcept nogil:
    free(list.bytes)
    free(list.entries)
    list.bytes = NULL
    list.entries = NULL
    list.count = list.room = list.bytes_used = list.bytes_room = 0


cdef class PacketSet(Held):
    """A list of packets; index it for (ts_ns, bytes, number, flow hash)."""

    def append(self, bytes packet not None, uint64_t ts_ns=0, uint64_t number=0):
        """Add a packet at the end.  ValueError while a sender holds the set."""
        self.require_writable()
        if list_append(&self.list, packet, <uint32_t>len(packet), ts_ns,
                       number or self.list.count + 1):
            raise MemoryError

    def clear(self):
        """Forget the packets, keep the memory.  ValueError while a sender holds the set."""
        self.require_writable()
        list_clear(&self.list)

    cdef int require_writable(self) except -1:
        # What grows may move, under whoever points into it.
        return self.require_unheld("the packet set")

    def __len__(self):
        return self.list.count

    def __getitem__(self, uint64_t index):
        if index >= self.list.count:
            raise IndexError(index)
        entry = self.list.entries[index]
        data = (<const char *>self.list.bytes + entry.offset)[:entry.length]
        return entry.ts_ns, data, entry.number, entry.hash

    @property
    def packet_bytes(self):
        """Bytes of all packets together."""
        cdef uint64_t index, total = 0
        for index in range(self.list.count):
            total += self.list.entries[index].length
        return total

    @property
    def memory_bytes(self):
        """Memory that the set holds."""
        return self.list.bytes_room + self.list.room * sizeof(Entry)

    def __dealloc__(self):
        list_free(&self.list)
