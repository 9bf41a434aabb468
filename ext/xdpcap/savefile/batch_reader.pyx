"""Capture files into packet sets, through libpcap and without the GIL.

Purpose: read pcap (micro- and nanosecond, both byte orders) and pcapng; put an Ethernet
header before raw IP; leave out, and count, what can't be sent.
Owner: one thread a reader.
Frees: close(), the descriptor included.

Source relied on: pcap-savefile(5), pcap_next_ex(3PCAP), pcap-linktype(7).
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from xdpcap.savefile.libpcap_file cimport *
from xdpcap.packets.packet_set cimport PacketList, PacketSet, list_append
from xdpcap.clib.libpcap cimport *

from xdpcap.errors import UsageError, XdpcapError

cdef enum:
    ETHERNET_HEADER = 14
    SHORTEST_ON_WIRE = 60       # without the FCS, IEEE 802.3
    LONGEST = 1 << 18           # libpcap's own limit of a packet
    NUMBERS_KEPT = 8            # packet numbers that a message can name

cdef enum Step:
    STEP_MORE = 0
    STEP_FULL = 1
    STEP_END = 2
    STEP_DAMAGED = 3
    STEP_NO_MEMORY = 4


# Packets that are left out for one cause, and the numbers of the first of them.
cdef struct Skipped:
    uint64_t count
    uint64_t[NUMBERS_KEPT] numbers


cdef struct ReaderState:
    OpenedFile opened
    int linktype
    bint raw_ip
    bint pad
    uint32_t longest
    uint32_t tag_room           # how much longer a frame with a VLAN tag may be
    uint8_t[12] macs            # destination and source for raw IP
    uint64_t before             # packets of the files before this one
    uint64_t truncated          # packets of which the file holds less than was on the wire
    Skipped too_long
    Skipped too_short
    unsigned char[LONGEST] work


cdef void _skip(Skipped *s, uint64_t number) noexcept nogil:
    if s.count < NUMBERS_KEPT:
        s.numbers[s.count] = number
    s.count += 1


cdef bint _is_ipv6(const ReaderState *r, const unsigned char *data) noexcept nogil:
    """What raw IP is: said by the linktype, or by the version where that leaves it open."""
    if r.linktype == DLT_RAW:
        return data[0] >> 4 == 6
    return r.linktype == DLT_IPV6


cdef uint32_t _limit(const ReaderState *r, const pcap_pkthdr *header,
                     const unsigned char *data) noexcept nogil:
    """The longest frame that can be sent: the MTU does not count a VLAN tag."""
    if r.raw_ip or header.caplen < ETHERNET_HEADER:
        return r.longest
    if (data[12] == 0x81 and data[13] == 0x00) or (data[12] == 0x88 and data[13] == 0xA8):
        return r.longest + r.tag_room
    return r.longest


cdef bint _take(ReaderState *r, PacketList *list, const pcap_pkthdr *header,
                const unsigned char *data) noexcept nogil:
    """Append one packet as it is to be sent; False when there is no memory."""
    cdef uint32_t length = header.caplen
    cdef uint64_t ts_ns = packet_ts_ns(header)
    cdef uint64_t number = r.opened.number
    if header.caplen < header.len:
        r.truncated += 1
    if r.raw_ip:
        length += ETHERNET_HEADER
    if length > _limit(r, header, data) or length > LONGEST:
        _skip(&r.too_long, number)
        return True
    if length < ETHERNET_HEADER or (r.raw_ip and header.caplen == 0):
        _skip(&r.too_short, number)
        return True
    if not r.raw_ip and not (r.pad and length < SHORTEST_ON_WIRE):
        return list_append(list, data, length, ts_ns, r.before + number) == 0
    if r.raw_ip:
        memcpy(r.work, r.macs, 12)
        r.work[12] = 0x86 if _is_ipv6(r, data) else 0x08
        r.work[13] = 0xDD if _is_ipv6(r, data) else 0x00
        memcpy(r.work + ETHERNET_HEADER, data, header.caplen)
    else:
        memcpy(r.work, data, header.caplen)
    if r.pad and length < SHORTEST_ON_WIRE:
        memset(r.work + length, 0, SHORTEST_ON_WIRE - length)
        length = SHORTEST_ON_WIRE
    return list_append(list, r.work, length, ts_ns, r.before + number) == 0


cdef Step _read(ReaderState *r, PacketList *list, uint64_t packets, uint64_t size) noexcept nogil:
    cdef pcap_pkthdr *header = NULL
    cdef const unsigned char *data = NULL
    cdef int result
    while list.count < packets and list.bytes_used < size:
        result = opened_next(&r.opened, &header, &data)
        if result == PCAP_ERROR_BREAK:
            return STEP_END
        if result < 0:
            return STEP_DAMAGED
        if not _take(r, list, header, data):
            return STEP_NO_MEMORY
    return STEP_FULL


@cython.no_gc_clear
cdef class BatchReader:
    """Reads one capture file from an open descriptor, which it takes over.

    Parameters
    ----------
    fd, name : int, str
        What to read from, and what to call it in messages.
    longest : int
        The longest frame that can be sent, bytes without FCS.
    tag_room : int
        How many bytes longer it may be with a VLAN tag (802.1Q or 802.1ad).
    pad : bool
        Fill frames up to 60 bytes with zeros.
    macs : bytes
        Destination and source, 12 bytes, for raw IP; b"" when none were given.
    before : int
        Packets of the files before this one: those of the set are numbered over all.
        Messages and `skipped` number them within the file.

    Raises UsageError for what is no capture file or of a linktype that can't be sent.
    """

    cdef ReaderState *r
    cdef ReaderState state
    cdef readonly str name
    cdef bint reading           # without the GIL
    cdef readonly str linktype
    cdef readonly bint ended
    cdef readonly str damage

    def __cinit__(self, int fd, str name not None, *, uint32_t longest=1514,
                  uint32_t tag_room=0, bint pad=False,
                  bytes macs not None=b"", uint64_t before=0):
        self.name = name
        self.r = &self.state
        opened_open(&self.r.opened, fd, name)
        self.r.longest = longest
        self.r.tag_room = tag_room
        self.r.pad = pad
        self.r.before = before
        self.r.linktype = pcap_datalink(self.r.opened.pcap)
        self.linktype = linktype_name(self.r.linktype)
        self.r.raw_ip = self.r.linktype in (DLT_RAW, DLT_IPV4, DLT_IPV6)
        self._admit(macs)

    def _admit(self, bytes macs):
        if self.r.linktype != DLT_EN10MB and not self.r.raw_ip:
            raise UsageError(
                f"{self.name}: linktype {self.linktype} can't be sent on Ethernet; "
                "only EN10MB and raw IP can")
        if self.r.raw_ip:
            if len(macs) != 12:
                raise UsageError(
                    f"{self.name}: raw IP has no Ethernet header; give --dst-mac and --src-mac")
            memcpy(self.r.macs, <const unsigned char *>macs, 12)

    def read(self, PacketSet packets not None, *, uint64_t max_packets=(1 << 62),
             uint64_t max_bytes=(1 << 62)):
        """Append packets until the set has so many, or so many bytes, or the file ends.

        Afterwards `ended` tells whether there is more, and `damage` what is wrong with
        the file, or None.  What stood before the damage is in the set.
        """
        cdef Step step
        if self.ended:
            return
        packets.require_writable()
        if self.reading:
            raise ValueError(f"{self.name} is being read in another thread")
        self.reading = True
        packets.hold(self.name)
        with nogil:
            step = _read(self.r, &packets.list, max_packets, max_bytes)
        packets.release(self.name)
        self.reading = False
        if step == STEP_NO_MEMORY:
            raise XdpcapError(f"{self.name}: no memory for its packets; leave out --preload")
        if step == STEP_DAMAGED:
            opened_interrupted()
            self.damage = opened_damage(&self.r.opened, self.name)
        self.ended = step != STEP_FULL

    @property
    def packet_count(self):
        """Packets read so far, those left out included."""
        return self.r.opened.number

    @property
    def truncated_count(self):
        """Packets of which the file holds less than was on the wire."""
        return self.r.truncated

    @property
    def skipped(self):
        """{"too_long": (count, first numbers), "too_short": (count, first numbers)}."""
        return {
            "too_long": (self.r.too_long.count, _numbers(&self.r.too_long)),
            "too_short": (self.r.too_short.count, _numbers(&self.r.too_short)),
        }

    def close(self):
        """Close the file; safe to call again.  ValueError while another thread reads it."""
        if self.reading:
            raise ValueError(f"{self.name} is being read in another thread")
        opened_close(&self.state.opened)
        self.ended = True

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __dealloc__(self):
        opened_close(&self.state.opened)


cdef _numbers(const Skipped *s):
    cdef uint64_t i, kept = s.count if s.count < NUMBERS_KEPT else NUMBERS_KEPT
    return [s.numbers[i] for i in range(kept)]
