"""Edits that a replay makes to packets before it sends them.

Purpose: MAC addresses, the VLAN tag and IP addresses of a whole packet set, in place.
Owner: a Rewriter is read-only once made; a set belongs to the thread that edits it.
Frees: the objects.

Runs when packets have been read, never in the sending loop.  Not touched are frames
shorter than an Ethernet header.

Source relied on: IEEE 802.1Q clause 9 (tag format), 802.3 clause 4 (shortest frame).
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from xdpcap.packets.edit.address_map cimport AddressMap
from xdpcap.packets.flow cimport flow_hash
from xdpcap.packets.packet_set cimport Entry, PacketList, PacketSet, list_widen
from xdpcap.packets.edit.readdress cimport readdress

from xdpcap.errors import XdpcapError
from xdpcap.options.rewrite import parse_rules

cdef enum:
    MACS_BYTES = 12
    ETHERNET_HEADER = 14
    TAG_BYTES = 4
    SHORTEST_ON_WIRE = 60       # without the FCS
    TPID_HIGH = 0x81            # of a tag that is added: 0x8100, a customer's


cdef inline bint _is_tagged(const unsigned char *data, uint32_t length) noexcept nogil:
    if length < ETHERNET_HEADER + TAG_BYTES:
        return False
    return ((data[MACS_BYTES] == 0x81 and data[MACS_BYTES + 1] == 0x00)
            or (data[MACS_BYTES] == 0x88 and data[MACS_BYTES + 1] == 0xA8))


cdef void _add_tag(const Edits *e, unsigned char *data, Entry *entry) noexcept nogil:
    memmove(data + MACS_BYTES + TAG_BYTES, data + MACS_BYTES, entry.length - MACS_BYTES)
    data[MACS_BYTES] = TPID_HIGH
    data[MACS_BYTES + 1] = 0
    data[MACS_BYTES + 2] = e.vlan_id >> 8
    data[MACS_BYTES + 3] = e.vlan_id & 0xFF
    entry.length += TAG_BYTES


cdef void _delete_tag(const Edits *e, unsigned char *data, Entry *entry) noexcept nogil:
    cdef uint32_t old = entry.length
    cdef uint32_t fill = e.shortest if e.shortest < old else old
    entry.length -= TAG_BYTES
    memmove(data + MACS_BYTES, data + MACS_BYTES + TAG_BYTES, entry.length - MACS_BYTES)
    if entry.length < fill:
        memset(data + entry.length, 0, fill - entry.length)
        entry.length = fill


cdef void _edit_tag(const Edits *e, unsigned char *data, Entry *entry) noexcept nogil:
    if e.vlan == VLAN_ADD:
        _add_tag(e, data, entry)
    elif not _is_tagged(data, entry.length):
        return
    elif e.vlan == VLAN_DELETE:
        _delete_tag(e, data, entry)
    elif e.vlan == VLAN_SET:
        # Priority and drop eligibility stay.
        data[MACS_BYTES + 2] = (data[MACS_BYTES + 2] & 0xF0) | e.vlan_id >> 8
        data[MACS_BYTES + 3] = e.vlan_id & 0xFF


cdef int _edit(const Edits *e, PacketList *list) noexcept nogil:
    """Edit every packet; 0, or -1 when there is no memory for longer ones."""
    cdef uint64_t i
    cdef Entry *entry
    cdef unsigned char *data
    if e.vlan == VLAN_ADD and list_widen(list, TAG_BYTES) != 0:
        return -1
    for i in range(list.count):
        entry = &list.entries[i]
        data = list.bytes + entry.offset
        if entry.length < ETHERNET_HEADER:
            continue
        if e.dst:
            memcpy(data, e.dst_mac, 6)
        if e.src:
            memcpy(data + 6, e.src_mac, 6)
        _edit_tag(e, data, entry)
        if e.addresses != NULL:
            readdress(e.addresses, data, entry.length)
        entry.hash = flow_hash(data, entry.length)
    return 0


cdef class Rewriter:
    """Edits packet sets as the rewriting options of a replay say.

    Parameters
    ----------
    dst_mac, src_mac : bytes or str
        Addresses for every Ethernet header (ARP's own and neighbour discovery's stay).
    vlan : str
        "add:ID" puts a tag before what is there, "del" removes the outermost one, "ID"
        changes the outermost one's id.  Untagged packets stay so with the last two.
    map_ip : iterable of str
        "CIDR:CIDR": addresses in the first go to the second, host bits kept.  The
        longest prefix counts; an address is mapped once.
    seed : int
        Randomise the addresses that no prefix holds, the same for the same seed
        (xdpcap/_addressmap tells which stay).
    pad : bool
        Fill a frame that loses its tag up to 60 bytes, when it was as long before.

    Raises UsageError, one line, for rules that can't be followed.
    """

    def __cinit__(self, dst_mac=None, src_mac=None, vlan=None, map_ip=(), seed=None,
                  bint pad=False):
        rules = parse_rules(dst_mac, src_mac, vlan, map_ip, seed)
        if rules.dst_mac is not None:
            self.edits.dst = True
            memcpy(self.edits.dst_mac, <const unsigned char *>(<bytes>rules.dst_mac), 6)
        if rules.src_mac is not None:
            self.edits.src = True
            memcpy(self.edits.src_mac, <const unsigned char *>(<bytes>rules.src_mac), 6)
        if rules.vlan is not None:
            kinds = {"add": VLAN_ADD, "del": VLAN_DELETE, "set": VLAN_SET}
            self.edits.vlan = kinds[rules.vlan.what]
            self.edits.vlan_id = rules.vlan.vlan_id or 0
        if rules.maps or rules.seed is not None:
            self.map = AddressMap(rules.maps, rules.seed)
            self.edits.addresses = &self.map.rules
        if pad:
            self.edits.shortest = SHORTEST_ON_WIRE

    def apply(self, PacketSet packets not None):
        """Edit every packet of the set, and its flow's hash with it.

        Raises XdpcapError, and leaves the set as it was, when there is no memory for tags.
        """
        cdef int result
        packets.require_writable()
        packets.hold("a Rewriter")
        with nogil:
            result = _edit(&self.edits, &packets.list)
        packets.release("a Rewriter")
        if result != 0:
            raise XdpcapError("no memory to add VLAN tags; leave out --preload")
