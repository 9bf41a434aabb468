from xdpcap.savefile.blocks cimport Sink, sink_room
from xdpcap.record.state cimport CaptureState, Reason, RUN_LIMIT, RUN_NO_ROOM, RUN_ON, RUN_ROTATE
from libc.stdint cimport int64_t, uint64_t


cdef extern from *:
    int64_t _take_from "__atomic_sub_fetch"(int64_t *p, int64_t value, int order) nogil
    int _RELAXED "__ATOMIC_RELAXED"


# Whether the next record, of at most `bound` bytes, can go into the current file now.
cdef inline Reason may_record(CaptureState *c, uint64_t bound) noexcept nogil:
    cdef Sink *s = c.sink
    if sink_room(s) < bound:
        return RUN_NO_ROOM
    # A file takes one packet at least, or a small limit would rotate for ever.
    if s.file.packets:
        if c.rotate_packets and s.file.packets >= c.rotate_packets:
            return RUN_ROTATE
        if c.rotate_size and s.file.size + bound > c.rotate_size:
            return RUN_ROTATE
    if c.budget != NULL:
        if (_take_from(&c.budget.packets, 1, _RELAXED) < 0
                or _take_from(&c.budget.bytes, <int64_t>bound, _RELAXED) < 0):
            return RUN_LIMIT
    return RUN_ON
