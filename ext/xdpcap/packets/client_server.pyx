"""Which side of its conversation a packet comes from: 0 the client's, 1 the server's.

Purpose: let both halves of a conversation leave by an interface of their own, told by the
sender's prefix (PrefixSides) or as written down before (RecordedSides).
Owner: one thread an object.
Frees: the objects.

A sender's address is the source of IP and the sender's of ARP (RFC 826); VLAN tags are
stepped over.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from xdpcap.packets.flow cimport FlowEnds, flow_ends, network_header
from xdpcap.packets.packet_set cimport PacketList, PacketSet

from xdpcap.errors import XdpcapError

cdef enum:
    CLIENT = 0
    SERVER = 1
    ETH_ARP = 0x0806
    ARP_BYTES = 28              # Ethernet and IPv4
    ARP_SENDER = 14             # offset of the sender's IPv4 address


# ---------------------------------------------------------------------------- by prefixes


cdef struct Prefix:
    unsigned char[16] address
    uint8_t version
    uint8_t bits


cdef bint _within(const Prefix *prefix, const unsigned char *address) noexcept nogil:
    cdef uint32_t whole = prefix.bits // 8, rest = prefix.bits % 8
    if memcmp(prefix.address, address, whole):
        return False
    return rest == 0 or (prefix.address[whole] ^ address[whole]) >> (8 - rest) == 0


cdef uint8_t _arp_sender(const unsigned char *data, uint32_t length,
                         unsigned char *address) noexcept nogil:
    """The sender's address of an ARP packet for IPv4 on Ethernet; its IP version or 0."""
    cdef uint16_t kind = 0
    cdef uint32_t at = network_header(data, length, &kind)
    if at == 0 or kind != ETH_ARP or length < at + ARP_BYTES:
        return 0
    if data[at + 2] != 0x08 or data[at + 3] != 0x00 or data[at + 4] != 6 or data[at + 5] != 4:
        return 0
    memcpy(address, data + at + ARP_SENDER, 4)
    return 4


cdef class PrefixSides:
    """The server's side is what `networks` (of `ipaddress`) hold the sender of.

    What has no address is the client's.
    """

    cdef Prefix *_prefixes
    cdef uint32_t _count

    def __cinit__(self, networks):
        cdef uint32_t i
        cdef bytes packed
        listed = list(networks)
        self._prefixes = <Prefix *>calloc(max(len(listed), 1), sizeof(Prefix))
        if self._prefixes == NULL:
            raise MemoryError
        self._count = <uint32_t>len(listed)
        for i in range(self._count):
            packed = listed[i].network_address.packed
            memcpy(self._prefixes[i].address, <const unsigned char *>packed, len(packed))
            self._prefixes[i].version = listed[i].version
            self._prefixes[i].bits = listed[i].prefixlen

    cdef uint8_t _side(self, const unsigned char *data, uint32_t length) noexcept nogil:
        cdef FlowEnds ends
        cdef uint32_t i
        if not flow_ends(data, length, &ends):
            ends.version = _arp_sender(data, length, ends.source)
        for i in range(self._count):
            if self._prefixes[i].version == ends.version and _within(
                    &self._prefixes[i], ends.source):
                return SERVER
        return CLIENT

    def of(self, PacketSet packets not None, uint64_t start=0, uint64_t offset=0):
        """One byte a packet, from the `start`th of the set on; `offset` means nothing here."""
        cdef PacketList *list = &packets.list
        cdef bytes sides = _room(list.count, start)
        cdef unsigned char *out = <unsigned char *>PyBytes_AS_STRING(sides)
        cdef uint64_t i
        packets.hold("PrefixSides")
        with nogil:
            for i in range(start, list.count):
                out[i - start] = self._side(list.bytes + list.entries[i].offset,
                                            list.entries[i].length)
        packets.release("PrefixSides")
        return sides

    def __dealloc__(self):
        free(self._prefixes)


cdef bytes _room(uint64_t count, uint64_t start):
    return PyBytes_FromStringAndSize(NULL, count - start if count > start else 0)


# ----------------------------------------------------------------------------- as recorded


cdef class RecordedSides:
    """Sides by packet number.

    `files` has a list a file: how many packets in a row are the client's, then the
    server's, and so on.  Packets are numbered over all files from 1.
    """

    cdef unsigned char *_bits
    cdef readonly uint64_t count

    def __cinit__(self, files):
        cdef uint64_t i, at = 0, end
        cdef uint8_t side
        self.count = sum(map(sum, files))
        self._bits = <unsigned char *>calloc(self.count // 8 + 1, 1)
        if self._bits == NULL:
            raise MemoryError
        for runs in files:
            side = CLIENT
            for run in runs:
                end = at + <uint64_t>run
                if end > self.count:
                    raise ValueError("a run of packets on one side can't be negative")
                if side == SERVER:
                    for i in range(at, end):
                        self._bits[i >> 3] |= 1 << (i & 7)
                at = end
                side ^= 1

    def of(self, PacketSet packets not None, uint64_t start=0, uint64_t offset=0):
        """One byte a packet, from the `start`th of the set on.

        `offset` is what has to be added to the packets' numbers: the packets of all
        files before theirs, where they are numbered by file.
        """
        cdef PacketList *list = &packets.list
        cdef bytes sides = _room(list.count, start)
        cdef unsigned char *out = <unsigned char *>PyBytes_AS_STRING(sides)
        cdef uint64_t i, number
        for i in range(start, list.count):
            number = list.entries[i].number + offset - 1
            if number >= self.count:
                raise XdpcapError(
                    f"packet {number + 1} is not in the split's cache; make it anew with "
                    "`xdpcap split`")
            out[i - start] = self._bits[number >> 3] >> (number & 7) & 1
        return sides

    def __dealloc__(self):
        free(self._bits)


# ---------------------------------------------------------------------------------- tools


def spread(PacketSet packets not None, bytes sides not None, bytearray into not None,
           uint64_t offset=0):
    """Put the packets' sides where their numbers say; `into` grows, with the client's."""
    cdef PacketList *list = &packets.list
    cdef const unsigned char *one = sides
    cdef unsigned char *out
    cdef uint64_t i, last
    if list.count == 0:
        return
    if <uint64_t>len(sides) != list.count:
        raise ValueError("a side is needed for every packet")
    last = list.entries[list.count - 1].number + offset
    if <uint64_t>len(into) < last:
        into.extend(bytes(last - len(into)))
    out = <unsigned char *>PyByteArray_AS_STRING(into)
    for i in range(list.count):
        # Numbers rise within a file.
        if list.entries[i].number + offset <= last:
            out[list.entries[i].number + offset - 1] = one[i]


def runs_of(bytes sides not None):
    """Lengths of the runs of equal sides, the client's first (0 when there is none)."""
    cdef const unsigned char *one = sides
    cdef uint64_t i, begun = 0, count = len(sides)
    cdef uint8_t side = CLIENT
    runs = []
    for i in range(count):
        if one[i] != side:
            runs.append(i - begun)
            begun = i
            side ^= 1
    if count > begun:
        runs.append(count - begun)
    return runs
