"""Who sends what, and when: the order of each queue and the due time of each packet.

Purpose: turn a packet set into arrays that the sending loop only reads.
Owner: whoever made them; a Plan and an Order are read-only once made.
Frees: the objects.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from xdpcap.packets.packet_set cimport Entry, PacketList, PacketSet, list_append

cdef enum:
    # What a frame costs on the wire beside its bytes: FCS, preamble and start of frame,
    # the gap between frames; and the shortest frame (IEEE 802.3).
    FCS_BYTES = 4
    PREAMBLE_AND_GAP_BYTES = 20
    SHORTEST_BYTES = 64

cdef enum PaceKind:
    PACE_RECORDED = 0
    PACE_PPS = 1
    PACE_MBPS = 2


cdef inline int64_t _whole_ns(double at_ns) noexcept nogil:
    # Damaged times at a low speed lead anywhere: no packet is due later than 146 years
    # after the start, so that sums of times fit 63 bits.
    cdef int64_t latest = <int64_t>1 << 62
    return <int64_t>at_ns if at_ns < <double>latest else latest


cdef inline uint64_t wire_bits(uint32_t length) noexcept nogil:
    cdef uint32_t size = length + FCS_BYTES
    if size < SHORTEST_BYTES:
        size = SHORTEST_BYTES
    return <uint64_t>(size + PREAMBLE_AND_GAP_BYTES) * 8


def wire_bits_of(uint32_t length):
    """Bits that a frame of `length` bytes (without FCS) takes on the wire."""
    return wire_bits(length)


cdef class Plan:
    """Due times of a set's packets, ns after the start of the pass; index it."""

    def __cinit__(self, uint64_t count):
        self.due = <int64_t *>calloc(count if count else 1, sizeof(int64_t))
        if self.due == NULL:
            raise MemoryError
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, uint64_t index):
        if index >= self.count:
            raise IndexError(index)
        return self.due[index]

    def __dealloc__(self):
        free(self.due)


cdef class Order:
    """Indices of the packets that go out of one queue, in order; index it."""

    def __cinit__(self, uint64_t count):
        self.index = <uint32_t *>calloc(count if count else 1, sizeof(uint32_t))
        if self.index == NULL:
            raise MemoryError
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, uint64_t position):
        if position >= self.count:
            raise IndexError(position)
        return self.index[position]

    def __dealloc__(self):
        free(self.index)


def divide(PacketSet packets not None, uint32_t queues):
    """An Order for each of `queues` queues: a flow stays on one, non-IP on the first."""
    cdef PacketList *list = &packets.list
    cdef uint64_t i
    cdef uint64_t[256] counts
    cdef uint32_t queue
    cdef Order order
    if not 1 <= queues <= 256:
        raise ValueError("from 1 to 256 queues")
    for queue in range(queues):
        counts[queue] = 0
    for i in range(list.count):
        counts[list.entries[i].hash % queues] += 1
    orders = [Order(counts[queue]) for queue in range(queues)]
    for queue in range(queues):
        order = orders[queue]
        order.count = 0
        for i in range(list.count):
            if list.entries[i].hash % queues == queue:
                order.index[order.count] = <uint32_t>i
                order.count += 1
    return orders


def select(PacketSet packets not None, Plan plan, bytes sides not None, uint32_t side):
    """(PacketSet, Plan) of the packets whose byte in `sides` is `side`, times unchanged.

    `sides` has a byte a packet; `plan` may be None.
    """
    cdef PacketList *source = &packets.list
    cdef PacketSet chosen = PacketSet()
    cdef Plan times = None
    cdef const unsigned char *wanted = sides
    cdef uint64_t i
    cdef Entry *entry
    if <uint64_t>len(sides) != source.count:
        raise ValueError("a side is needed for every packet")
    if plan is not None:
        if plan.count < source.count:
            raise ValueError("the plan is of another set")
        times = Plan(source.count)
        times.count = 0
    for i in range(source.count):
        if wanted[i] != side:
            continue
        entry = &source.entries[i]
        if list_append(&chosen.list, source.bytes + entry.offset, entry.length, entry.ts_ns,
                       entry.number):
            raise MemoryError
        if plan is not None:
            times.due[times.count] = plan.due[i]
            times.count += 1
    return chosen, times


cdef class Pacer:
    """Makes the plans of the sets of one replay, one after the other.

    Parameters
    ----------
    kind, value : str, float
        "recorded" (value: how many times faster), "pps" (packets a second) or "mbps"
        (megabits a second on the wire, preamble and gap included).
    gap_limit_s : float
        The longest pause between two packets with "recorded"; None for any.

    A recorded time that lies before its predecessor's is taken as the same time.
    """

    cdef PaceKind kind
    cdef double value
    cdef int64_t gap_limit_ns
    cdef bint begun
    cdef uint64_t last_ts_ns
    cdef double at_ns           # due time of the next packet, or of the last with "recorded"
    cdef uint64_t planned

    def __cinit__(self, str kind not None, double value=1.0, gap_limit_s=None):
        if not value > 0:
            raise ValueError("the pace must be more than 0")
        self.kind = {"recorded": PACE_RECORDED, "pps": PACE_PPS, "mbps": PACE_MBPS}[kind]
        self.value = value
        self.gap_limit_ns = -1 if gap_limit_s is None else <int64_t>(gap_limit_s * 1e9)

    cdef double _gap(self, const Entry *entry) noexcept:
        """From the packet before to this one, ns, as recorded and scaled."""
        cdef int64_t gap
        if not self.begun:
            return 0
        gap = <int64_t>entry.ts_ns - <int64_t>self.last_ts_ns
        if gap < 0:
            return 0
        if 0 <= self.gap_limit_ns < gap:
            gap = self.gap_limit_ns
        return gap / self.value

    def plan(self, PacketSet packets not None):
        """The Plan of the next set."""
        cdef PacketList *list = &packets.list
        cdef Plan plan = Plan(list.count)
        cdef Entry *entry
        cdef uint64_t i
        for i in range(list.count):
            entry = &list.entries[i]
            if self.kind == PACE_RECORDED:
                self.at_ns += self._gap(entry)
                if not self.begun or entry.ts_ns > self.last_ts_ns:
                    self.last_ts_ns = entry.ts_ns
                self.begun = True
            plan.due[i] = _whole_ns(self.at_ns)
            if self.kind == PACE_PPS:
                self.at_ns += 1e9 / self.value
            elif self.kind == PACE_MBPS:
                self.at_ns += wire_bits(entry.length) * 1e3 / self.value
        self.planned += list.count
        return plan

    @property
    def pass_ns(self):
        """How long the packets planned so far take, up to the first of the next pass.

        With recorded times one mean gap follows the last packet.
        """
        if self.kind == PACE_RECORDED and self.planned > 1:
            return _whole_ns(self.at_ns * self.planned / (self.planned - 1))
        return _whole_ns(self.at_ns)
