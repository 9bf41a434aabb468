"""Packets that mirror mode copies, as Python objects, from all queues in order of time.

Purpose: look at packets as they arrive, straight from the rings that the program fills.
Owner: one thread; it owns the rings' reading side, so no Capture may have them.
Frees: close() its own arrays; the rings are the caller's.

Source relied on: bpf/mirror.h; libpcap's bpf_filter.c.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from xdpcap.clib.posix cimport CLOCK_MONOTONIC, CLOCK_TAI
from xdpcap.host.clocks cimport clock_ns
from xdpcap.packets.filter.classic_bpf cimport Interpreter
from xdpcap.rings.copy_rings cimport (
    CopyRing,
    CopyRings,
    bytes_waiting,
    find_copy,
    release_copies,
    take_copy,
)
from xdpcap.savefile.encode cimport TAG_BYTES, put_tagged
from xdpcap.clib.abi cimport XDPCAP_META_VLAN, xdpcap_copy
from xdpcap.clib.libpcap cimport bpf_filter, bpf_insn

cdef enum:
    # Packets that a filter may leave out before signals are looked for.
    SCANNED = 1 << 16

# A packet is stamped before its copy can be seen, by the time that the copying takes. One that
# is this old has every older one of the other rings beside it.
HOLD_NS = 2000000


cdef struct Front:
    CopyRings *rings
    bint there                  # whether `head` and `packet` are of the oldest in the rings
    xdpcap_copy head
    const unsigned char *packet


cdef struct LiveRingsState:
    Front *fronts
    uint32_t count
    const bpf_insn *filter      # the interpreter's; NULL takes everything
    uint64_t taken
    uint64_t left_out


cdef Front *_oldest(LiveRingsState *l, uint64_t until_ns) noexcept nogil:
    """The ring with the oldest packet, of those stamped up to a time; NULL for none."""
    cdef Front *best = NULL
    cdef Front *front
    cdef uint32_t i
    for i in range(l.count):
        front = &l.fronts[i]
        if not front.there:
            front.there = find_copy(front.rings, &front.head, &front.packet)
        if front.there and (best == NULL or front.head.meta.ts_ns < best.head.meta.ts_ns):
            best = front
    return NULL if best == NULL or best.head.meta.ts_ns > until_ns else best


cdef void _take(LiveRingsState *l, Front *front) noexcept nogil:
    take_copy(front.rings)
    front.there = False
    l.taken += 1


cdef Front *_next(LiveRingsState *l, uint64_t until_ns, uint32_t *scanned) noexcept nogil:
    """As _oldest(), of the packets that the filter takes; NULL also after SCANNED others."""
    cdef Front *front
    while scanned[0] < SCANNED:
        front = _oldest(l, until_ns)
        if front == NULL or l.filter == NULL or bpf_filter(
                l.filter, front.packet, front.head.meta.origlen, front.head.caplen):
            return front
        _take(l, front)
        l.left_out += 1
        scanned[0] += 1
    return NULL


cdef uint32_t _tag_bytes(const Front *front) noexcept nogil:
    """How much longer the packet is with the VLAN tag that the device took off it."""
    return TAG_BYTES if front.head.meta.flags & XDPCAP_META_VLAN else 0


cdef bytes _bytes(const Front *front):
    """What was copied of the packet, with that tag back in its place; no more if it was cut."""
    cdef const xdpcap_copy *head = &front.head
    cdef uint32_t caplen = head.caplen, taken = 0, done
    cdef unsigned char *out
    cdef bytes packet
    if not _tag_bytes(front):
        return PyBytes_FromStringAndSize(<const char *>front.packet, caplen)
    if caplen == head.meta.origlen:
        caplen += TAG_BYTES
    packet = PyBytes_FromStringAndSize(NULL, caplen)
    # Nobody else has seen these bytes yet.
    out = <unsigned char *>PyBytes_AS_STRING(packet)
    done = put_tagged(out, front.packet, <uint32_t>head.meta.vlan_proto << 16 | head.meta.vlan_tci,
                      caplen, &taken)
    memcpy(out + done, front.packet + taken, caplen - done)
    return packet


NAME = "the view of live packets"


@cython.no_gc_clear
cdef class LiveRings:
    """Takes packets from `CopyRing`s, the oldest first.

    Parameters
    ----------
    rings : list of CopyRing
        One or more; each is bound to a program or will be.
    clock : str
        The clock of the programs that fill them, "monotonic" or "tai".

    Where packets of several queues or CPUs are put in order, a packet is held back for
    HOLD_NS; `waiting` then says that there are some.
    """

    cdef LiveRingsState state
    cdef list rings             # whose memory is looked at: held until close()
    cdef Interpreter filter
    cdef bint reading
    cdef readonly bint merges
    cdef int clock

    def __cinit__(self, list rings not None, str clock not None):
        cdef CopyRing ring
        cdef uint32_t i
        self.rings = []
        self.clock = {"monotonic": CLOCK_MONOTONIC, "tai": CLOCK_TAI}[clock]
        self.state.fronts = <Front *>calloc(max(len(rings), 1), sizeof(Front))
        if self.state.fronts == NULL:
            raise MemoryError
        for i in range(len(rings)):
            ring = rings[i]
            ring._check_open()
            ring.hold(NAME)
            self.rings.append(ring)
            self.state.fronts[i].rings = &ring.r
            self.merges |= ring.r.lane_count > 1
        self.state.count = len(rings)
        self.merges |= len(rings) > 1

    def filter_by(self, Interpreter filter not None):
        """From now on count packets that `filter` does not take, and leave them out."""
        self._check_idle()
        self.filter = filter
        self.state.filter = filter.insns

    def read(self, uint64_t max_packets, int64_t offset_ns):
        """What is there, up to so many packets: a list of (ring's index, ts_ns, origlen, bytes).

        `offset_ns` is added to the program's clock to make UTC of it
        (`xdpcap.record.capture.utc_offset_ns`). Never waits.
        """
        cdef uint64_t until_ns = <uint64_t>-1
        cdef uint32_t scanned = 0, i
        cdef Front *front
        cdef list packets = []
        self._check_idle()
        if self.merges:
            until_ns = clock_ns(self.clock) - HOLD_NS
        while <uint64_t>len(packets) < max_packets:
            self.reading = True
            with nogil:
                front = _next(&self.state, until_ns, &scanned)
            self.reading = False
            if front == NULL:
                break
            packets.append((
                <uint32_t>(front - self.state.fronts),
                <uint64_t>(<int64_t>front.head.meta.ts_ns + offset_ns),
                front.head.meta.origlen + _tag_bytes(front),
                _bytes(front)))
            _take(&self.state, front)
        for i in range(self.state.count):
            release_copies(self.state.fronts[i].rings)
        return packets

    @property
    def waiting(self):
        """Bytes in the rings that have not been taken."""
        cdef uint32_t i
        self._check_open()
        return sum(bytes_waiting(self.state.fronts[i].rings) for i in range(self.state.count))

    @property
    def packet_count(self):
        """Packets taken so far, those that the filter left out included."""
        return self.state.taken

    @property
    def left_out_count(self):
        """Packets that the filter did not take."""
        return self.state.left_out

    def close(self):
        """Let go of the rings, which may be closed then; safe to call again.

        ValueError while another thread reads.
        """
        self._check_not_reading()
        self._free()

    cdef int _check_open(self) except -1:
        if self.state.fronts == NULL:
            raise ValueError(f"{NAME} is closed")
        return 0

    cdef int _check_not_reading(self) except -1:
        if self.reading:
            raise ValueError(f"{NAME} is reading in another thread")
        return 0

    cdef int _check_idle(self) except -1:
        self._check_open()
        return self._check_not_reading()

    cdef _free(self):
        cdef CopyRing ring
        self.state.count = 0
        free(self.state.fronts)
        self.state.fronts = NULL
        if self.rings is not None:
            for ring in self.rings:
                ring.release(NAME)
        self.rings = []

    def __dealloc__(self):
        self._free()
