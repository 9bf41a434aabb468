"""What became of a block: its packets are in the file, or lost.

Purpose: count the packets of blocks whose write is through, in the order of the file, and find
where a file ends whose write has failed.
Owner: the sink's worker thread.
Frees: nothing; a block's room is free once it is retired.
"""

from libc.stdint cimport uint32_t, uint64_t

from xdpcap.savefile.sink_state cimport *


cdef void _count_up_to(Sink *s, const Slot *slot, uint64_t packets, uint64_t size) noexcept nogil:
    cdef SinkFile *f = &s.files[slot.file]
    f.written += packets - slot.flushed_packets
    f.written_bytes += size - slot.flushed_bytes
    s.written += packets - slot.flushed_packets
    s.written_bytes += size - slot.flushed_bytes


cdef void count_written(Sink *s, const Slot *slot) noexcept nogil:
    """A block's packets are in the file; those of an earlier flush are counted."""
    _count_up_to(s, slot, slot.packets, slot.bytes)


cdef uint64_t readable_end(const Slot *slot) noexcept nogil:
    """Bytes of a file that are whole when this block of it could not be written."""
    if slot.flushed:
        return slot.file_offset + slot.flushed
    if slot.cut > slot.file_offset + slot.done:
        return 0    # the first block, and not even the header got there
    return slot.cut


cdef void _salvage(Sink *s, Slot *slot) noexcept nogil:
    """A block of which the disk took a part: its records up to the last mark in there stay."""
    cdef SinkFile *f = &s.files[slot.file]
    cdef Mark *mark
    cdef uint32_t i
    for i in range(slot.mark_count, 0, -1):
        mark = &slot.marks[i - 1]
        if mark.end <= slot.done and mark.end > slot.flushed:
            f.cut = slot.file_offset + mark.end
            _count_up_to(s, slot, mark.packets, mark.bytes)
            slot.flushed_packets = mark.packets
            slot.flushed_bytes = mark.bytes
            return


cdef void _retire_one(Sink *s, Slot *slot) noexcept nogil:
    cdef SinkFile *f = &s.files[slot.file]
    if slot.state == SLOT_FAILED and f.error == 0:
        f.cut = readable_end(slot)
        _salvage(s, slot)
        f.error = slot.error
    if f.error:
        s.write_dropped += slot.packets - slot.flushed_packets
    else:
        count_written(s, slot)
    f.in_flight -= 1
    if f.finished and f.in_flight == 0:
        s.some_file_done = True
    slot.state = SLOT_FREE


cdef void retire(Sink *s) noexcept nogil:
    """Count the oldest blocks that are through, in order, and free their room."""
    cdef Slot *slot
    while s.tail < s.block_start:
        slot = slot_of(s, s.tail)
        if slot.state != SLOT_DONE and slot.state != SLOT_FAILED:
            return
        _retire_one(s, slot)
        s.tail += s.block_size
