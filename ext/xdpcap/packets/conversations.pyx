"""The client's and the server's side of every conversation in a capture, found out from it.

Purpose: what `xdpcap split` writes down, 0 for the client's side and 1 for the server's.
Owner: one thread an object.
Frees: the object.

Source relied on: RFC 9293, section 3.5 (who sends the first SYN opened the connection).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from xdpcap.packets.flow cimport FlowEnds, flow_ends
from xdpcap.packets.packet_set cimport Entry, PacketList, PacketSet

cdef enum:
    CLIENT = 0
    SERVER = 1
    TCP = 6
    TCP_FLAGS = 13              # offset in the TCP header
    TCP_SYN = 2
    TCP_ACK = 16
    MOST_FLOWS = 1 << 30
    FIRST_SLOTS = 1 << 12
    # Places in a key: version, protocol, ends 0 and 1 of address and port each.
    KEY_VERSION = 0
    KEY_PROTOCOL = 1
    KEY_END = 2
    END_BYTES = 18
    KEY_BYTES = 38
    OF_HOSTS = 0x80             # beside the version

cdef enum How:
    HOW_UNKNOWN = 0
    HOW_HANDSHAKE = 1           # somebody sent the first SYN, or answered it
    HOW_PORTS = 2               # the lower port is the server's
    HOW_HOSTS = 3               # as another flow of the two hosts
    HOW_FIRST = 4               # who sent first is the client
    HOW_MAC = 5                 # not IP: as most IP packets of its sender's MAC address


# Both directions of one conversation; or, with version 0, what one MAC address sends
# beside IP, or, with OF_HOSTS, the two hosts of conversations.
cdef struct Flow:
    unsigned char[KEY_BYTES] key
    unsigned char[12] macs      # of end 0 and of end 1, as far as seen
    uint64_t[2] counts          # packets by end; of a MAC address, its IP packets by side
    uint8_t client              # end that is the client; of a MAC address, its side
    uint8_t first               # end that sent first
    uint8_t how


cdef struct FlowTable:
    uint32_t *slots             # index of a flow + 1, or 0
    uint64_t slot_count
    Flow *flows
    uint64_t count
    uint64_t room


cdef uint64_t _hash(const unsigned char *key) noexcept nogil:
    # FNV-1a, folded: the low bits choose the slot.
    cdef uint64_t hash = <uint64_t>0xCBF29CE484222325
    cdef uint32_t i
    for i in range(KEY_BYTES):
        hash = (hash ^ key[i]) * <uint64_t>0x100000001B3
    return hash ^ (hash >> 32)


cdef bint _rehash(FlowTable *table, uint64_t slot_count) noexcept nogil:
    cdef uint32_t *slots = <uint32_t *>calloc(slot_count, sizeof(uint32_t))
    cdef uint64_t i, at
    if slots == NULL:
        return False
    for i in range(table.count):
        at = _hash(table.flows[i].key) & (slot_count - 1)
        while slots[at]:
            at = (at + 1) & (slot_count - 1)
        slots[at] = <uint32_t>i + 1
    free(table.slots)
    table.slots = slots
    table.slot_count = slot_count
    return True


cdef Flow *_look_up(FlowTable *table, const unsigned char *key) noexcept nogil:
    """The flow of that key, or NULL."""
    cdef uint64_t at
    if table.slot_count == 0:
        return NULL
    at = _hash(key) & (table.slot_count - 1)
    while table.slots[at]:
        if memcmp(table.flows[table.slots[at] - 1].key, key, KEY_BYTES) == 0:
            return &table.flows[table.slots[at] - 1]
        at = (at + 1) & (table.slot_count - 1)
    return NULL


cdef Flow *_enter(FlowTable *table, const unsigned char *key) noexcept nogil:
    """The flow of that key, made if it is new; NULL when there is no memory."""
    cdef Flow *flow = _look_up(table, key)
    cdef uint64_t at
    cdef void *moved
    if flow != NULL:
        return flow
    if table.count == MOST_FLOWS:
        return NULL
    # At most half of the slots are taken, so that a search ends soon.
    if (table.count + 1) * 2 > table.slot_count and not _rehash(
            table, table.slot_count * 2 if table.slot_count else FIRST_SLOTS):
        return NULL
    if table.count == table.room:
        moved = realloc(table.flows, (table.room * 2 + FIRST_SLOTS) * sizeof(Flow))
        if moved == NULL:
            return NULL
        table.flows = <Flow *>moved
        table.room = table.room * 2 + FIRST_SLOTS
    flow = &table.flows[table.count]
    memset(flow, 0, sizeof(Flow))
    memcpy(flow.key, key, KEY_BYTES)
    table.count += 1
    at = _hash(key) & (table.slot_count - 1)
    while table.slots[at]:
        at = (at + 1) & (table.slot_count - 1)
    table.slots[at] = <uint32_t>table.count
    return flow


cdef void _put_end(unsigned char *end, const unsigned char *address, uint16_t port) noexcept nogil:
    memcpy(end, address, 16)
    end[16] = port >> 8
    end[17] = port & 255


cdef uint32_t _make_key(const FlowEnds *ends, unsigned char *key) noexcept nogil:
    """The key of both directions, ends in order; returns which end the sender is."""
    cdef unsigned char[END_BYTES] source
    cdef unsigned char[END_BYTES] target
    cdef uint32_t sender
    _put_end(source, ends.source, ends.source_port)
    _put_end(target, ends.target, ends.target_port)
    sender = 1 if memcmp(source, target, END_BYTES) > 0 else 0
    key[KEY_VERSION] = ends.version
    key[KEY_PROTOCOL] = ends.protocol
    memcpy(key + KEY_END + sender * END_BYTES, source, END_BYTES)
    memcpy(key + KEY_END + (1 - sender) * END_BYTES, target, END_BYTES)
    return sender


cdef void _make_mac_key(const unsigned char *mac, unsigned char *key) noexcept nogil:
    memset(key, 0, KEY_BYTES)
    memcpy(key + KEY_END, mac, 6)


cdef void _make_hosts_key(const unsigned char *of, unsigned char *key) noexcept nogil:
    """The key of a conversation's two hosts: without protocol and ports."""
    memcpy(key, of, KEY_BYTES)
    key[KEY_VERSION] |= OF_HOSTS
    key[KEY_PROTOCOL] = 0
    memset(key + KEY_END + 16, 0, 2)
    memset(key + KEY_END + END_BYTES + 16, 0, 2)


cdef uint32_t _port(const Flow *flow, uint32_t end) noexcept nogil:
    cdef const unsigned char *p = flow.key + KEY_END + end * END_BYTES + 16
    return <uint32_t>p[0] << 8 | p[1]


cdef void _note_handshake(Flow *flow, const FlowEnds *ends, uint32_t sender,
                          const unsigned char *data, uint32_t length) noexcept nogil:
    cdef uint8_t flags
    if flow.how == HOW_HANDSHAKE or ends.protocol != TCP or not ends.has_ports:
        return
    if length <= ends.transport + TCP_FLAGS:
        return
    flags = data[ends.transport + TCP_FLAGS]
    if flags & TCP_SYN:
        flow.how = HOW_HANDSHAKE
        flow.client = 1 - sender if flags & TCP_ACK else sender


cdef bint _note(FlowTable *table, const unsigned char *data, uint32_t length,
                uint32_t *code) noexcept nogil:
    """Enter one packet; its flow and end become `code`.  False when there is no memory."""
    cdef FlowEnds ends
    cdef unsigned char[KEY_BYTES] key
    cdef uint32_t sender = 0
    cdef Flow *flow
    cdef bint ip = flow_ends(data, length, &ends)
    if ip:
        sender = _make_key(&ends, key)
    else:
        _make_mac_key(data + 6, key)
    flow = _enter(table, key)
    if flow == NULL:
        return False
    if ip:
        if flow.counts[0] + flow.counts[1] == 0:
            flow.first = sender
        if flow.counts[sender] == 0:
            memcpy(flow.macs + 6 * sender, data + 6, 6)
        flow.counts[sender] += 1
        # Equal ports say as little as none.
        if flow.how == HOW_UNKNOWN and ends.source_port != ends.target_port:
            flow.how = HOW_PORTS
        _note_handshake(flow, &ends, sender, data, length)
    code[0] = <uint32_t>(((flow - table.flows) << 1 | sender) + 1)
    return True


cdef bint _decide_hosts(FlowTable *table, uint8_t how, uint64_t count) noexcept nogil:
    """Remember, of flows decided so, who was the client; the first flow of two hosts counts."""
    cdef unsigned char[KEY_BYTES] key
    cdef uint64_t i, before
    cdef Flow *hosts
    for i in range(count):
        if table.flows[i].how != how or table.flows[i].key[KEY_VERSION] == 0:
            continue
        _make_hosts_key(table.flows[i].key, key)
        if memcmp(key + KEY_END, key + KEY_END + END_BYTES, END_BYTES) == 0:
            continue            # a host and itself
        before = table.count
        hosts = _enter(table, key)
        if hosts == NULL:
            return False
        if table.count > before:
            hosts.client = table.flows[i].client
            hosts.how = HOW_HOSTS
    return True


cdef void _vote(FlowTable *table, const Flow *flow) noexcept nogil:
    """Count a conversation's packets for the sides of its two MAC addresses."""
    cdef unsigned char[KEY_BYTES] key
    cdef uint32_t end
    cdef Flow *mac
    for end in range(2):
        _make_mac_key(flow.macs + 6 * end, key)
        mac = _look_up(table, key)
        if mac != NULL:
            mac.counts[CLIENT if end == flow.client else SERVER] += flow.counts[end]


cdef bint _decide(FlowTable *table) noexcept nogil:
    cdef uint64_t i, count = table.count
    cdef unsigned char[KEY_BYTES] key
    cdef Flow *flow
    cdef Flow *hosts
    for i in range(count):
        flow = &table.flows[i]
        if flow.how == HOW_PORTS:
            flow.client = 1 if _port(flow, 1) > _port(flow, 0) else 0
    # A handshake is known, ports are a guess: it decides for its hosts first.
    if not _decide_hosts(table, HOW_HANDSHAKE, count):
        return False
    if not _decide_hosts(table, HOW_PORTS, count):
        return False
    for i in range(count):
        flow = &table.flows[i]
        if flow.key[KEY_VERSION] == 0:
            continue
        if flow.how == HOW_UNKNOWN:
            _make_hosts_key(flow.key, key)
            hosts = _look_up(table, key)
            flow.how = HOW_HOSTS if hosts != NULL else HOW_FIRST
            flow.client = hosts.client if hosts != NULL else flow.first
        _vote(table, flow)
    for i in range(count):
        flow = &table.flows[i]
        if flow.key[KEY_VERSION] == 0:
            flow.how = HOW_MAC
            flow.client = SERVER if flow.counts[SERVER] > flow.counts[CLIENT] else CLIENT
    return True


cdef class FlowSides:
    """Finds the sides from a capture as a whole: `add` all packets, then `decide`.

    In a conversation the client is who sent the first SYN; without one the end with the
    higher port; without ports who is it in another conversation of the two hosts, else
    who sent first.  What is not IP goes with most IP packets of its sender's MAC address.

    Memory: 4 bytes a packet, about 100 a conversation.
    """

    cdef FlowTable _table
    cdef uint32_t *_codes
    cdef uint64_t _codes_room
    cdef uint64_t _total
    cdef uint64_t _conversations
    cdef bint _decided

    cdef bint _reserve(self, uint64_t wanted) noexcept nogil:
        cdef uint64_t room = self._codes_room
        cdef void *moved
        if wanted <= room:
            return True
        while room < wanted:
            room = room * 2 + FIRST_SLOTS
        moved = realloc(self._codes, room * sizeof(uint32_t))
        if moved == NULL:
            return False
        self._codes = <uint32_t *>moved
        memset(self._codes + self._codes_room, 0, (room - self._codes_room) * sizeof(uint32_t))
        self._codes_room = room
        return True

    def add(self, PacketSet packets not None, uint64_t offset=0):
        """Take the next packets; `offset` is to be added to their numbers."""
        cdef PacketList *list = &packets.list
        cdef Entry *entry
        cdef uint64_t i, number = 1
        cdef bint good = True
        if self._decided:
            raise ValueError("the sides are decided")
        packets.hold("FlowSides")
        with nogil:
            for i in range(list.count):
                entry = &list.entries[i]
                number = entry.number + offset
                good = number != 0 and self._reserve(number) and _note(
                    &self._table, list.bytes + entry.offset, entry.length,
                    &self._codes[number - 1])
                if not good:
                    break
                self._total = max(self._total, number)
        packets.release("FlowSides")
        if not good and number == 0:
            raise ValueError("packets are numbered from 1 on")
        if not good:
            raise MemoryError

    def decide(self):
        """The side of each packet, by number from 1, one byte each.

        A number that no packet had is the client's.  After that no packet can be added.
        """
        cdef bytes sides = PyBytes_FromStringAndSize(NULL, self._total)
        cdef unsigned char *out = <unsigned char *>PyBytes_AS_STRING(sides)
        cdef uint64_t i
        cdef uint32_t code
        cdef Flow *flow
        cdef bint good
        if self._decided:
            raise ValueError("the sides are decided")
        self._decided = True
        self._conversations = self._table.count
        with nogil:
            good = _decide(&self._table)
            if good:
                for i in range(self._total):
                    out[i] = CLIENT
                    if self._codes[i]:
                        code = self._codes[i] - 1
                        flow = &self._table.flows[code >> 1]
                        out[i] = (flow.client if flow.how == HOW_MAC
                                  else (code & 1) != flow.client)
        if not good:
            raise MemoryError
        return sides

    @property
    def decided_by(self):
        """How many conversations were decided by what, once they are."""
        cdef uint64_t i
        counts = {"handshake": 0, "ports": 0, "hosts": 0, "first": 0}
        names = {HOW_HANDSHAKE: "handshake", HOW_PORTS: "ports", HOW_HOSTS: "hosts",
                 HOW_FIRST: "first"}
        for i in range(self._conversations):
            name = names.get(self._table.flows[i].how)
            if name is not None:
                counts[name] += 1
        return counts

    def __dealloc__(self):
        free(self._table.slots)
        free(self._table.flows)
        free(self._codes)
