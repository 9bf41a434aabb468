"""What a worker does between two looks at its ring: the clock, the losses, the wait.

Purpose: know the offset to UTC and what the kernel has dropped, by the clock; sleep or
poll until there is something to take.
Owner: one worker thread a CaptureState.
Frees: nothing.

Source relied on: Documentation/networking/af_xdp.rst; kernel/time/timekeeping.c.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from xdpcap.clib.posix cimport (
    CLOCK_REALTIME,
    CLOCK_TAI,
    MSG_DONTWAIT,
    POLLIN,
    nanosleep,
    poll,
    pollfd,
    read,
    recvfrom,
    timespec,
)
from xdpcap.rings.copy_rings cimport bytes_waiting
from xdpcap.host.clocks cimport ahead_measure, clock_ns
from xdpcap.host.stage_times cimport STAGE_IDLE, STAGE_PEEK, STAGE_SOURCE, wait_begins, wait_ends
from xdpcap.record.loop cimport CaptureState
from xdpcap.rings.socket_calls cimport read_statistics
from xdpcap.clib.libxdp cimport xdp_statistics, xsk_ring_prod__needs_wakeup


cdef enum:
    # A loss is looked for so often; the getsockopt costs about 0.3 us.
    STATISTICS_EVERY_NS = 10000000
    SECOND_NS = 1000000000
    # The kernel's clock against UTC.
    CLOCK_EVERY_NS = 1000000000
    POLL_MS = 100
    # The same where nothing can be waited on (perf rings): how late a single packet may be.
    BLIND_MS = 5
    # Bounds of the pause between two looks at a busy ring; see _pause().
    PAUSE_MIN_NS = 20000
    PAUSE_MAX_NS = 1000000


# ---------------------------------------------------------------- by the clock

cdef int64_t utc_offset(int clock) noexcept nogil:
    """UTC minus `clock`, from the tightest of five bracketed readings."""
    cdef uint64_t before, utc, after, best = <uint64_t>-1
    cdef int64_t offset = 0, half = SECOND_NS // 2
    cdef int i
    for i in range(5):
        before = clock_ns(clock)
        utc = clock_ns(CLOCK_REALTIME)
        after = clock_ns(clock)
        if after - before < best:
            best = after - before
            offset = <int64_t>utc - <int64_t>(before + (after - before) // 2)
    if clock == CLOCK_TAI:
        # The kernel keeps the two whole seconds apart (kernel/time/timekeeping.c): what is
        # left over is the time between the readings, and would make times jump back.
        if offset >= 0:
            offset = (offset + half) // SECOND_NS * SECOND_NS
        else:
            offset = -((half - offset) // SECOND_NS * SECOND_NS)
    return offset


cdef void set_offsets(CaptureState *c) noexcept nogil:
    """From what is known of the clocks: what to add to a time for the clock of the file."""
    cdef int64_t ahead = c.device_clock.offset_ns if c.device_clock.id else 0
    c.file_ahead_ns = ahead if c.device_time else 0
    c.device_offset_ns = c.file_ahead_ns - ahead
    c.clock_offset_ns = c.utc_offset_ns + c.file_ahead_ns


cdef void periodic(CaptureState *c, uint64_t now) noexcept nogil:
    """What is done by the clock: losses, the offset to UTC."""
    cdef xdp_statistics stats
    cdef uint64_t dropped
    # One loss at a time: the next is looked for when the packets before this one are out.
    if c.mirror == NULL and now >= c.statistics_due_ns and c.drops_ahead == 0:
        c.statistics_due_ns = now + STATISTICS_EVERY_NS
        if read_statistics(c.fd, &stats) == 0:
            dropped = stats.rx_dropped + stats.rx_ring_full
            c.drops_ahead = dropped - c.dropped_seen
            c.drops_at = c.rx.producer[0]
            c.dropped_seen = dropped
    if now >= c.clock_due_ns:
        c.clock_due_ns = now + CLOCK_EVERY_NS
        c.utc_offset_ns = utc_offset(c.clock)
        set_offsets(c)
    # A NIC's clock drifts by microseconds a second where nobody steers it.
    if c.device_clock.id and now >= c.device_clock.stale_ns:
        ahead_measure(&c.device_clock)
        set_offsets(c)


# ---------------------------------------------------------------- waiting

cdef uint32_t waiting(const CaptureState *c) noexcept nogil:
    """Descriptors in the RX ring, or bytes in mirror mode's, that have not been taken."""
    if c.mirror != NULL:
        return <uint32_t>bytes_waiting(c.mirror)
    return c.rx.producer[0] - c.rx.consumer[0]


cdef void _pause(CaptureState *c, uint64_t taken, uint64_t size) noexcept nogil:
    """Sleep between two looks at a busy ring instead of asking to be woken.

    A wake-up for every NAPI batch costs both sides more than the packets do.  The pause
    is steered so that a sixteenth of the ring is waiting at each look, which leaves
    fifteen sixteenths to ride out a delay.  The ring has `size` of what is `taken`:
    descriptors, or bytes.
    """
    cdef timespec ts
    cdef uint64_t target = size // 16
    if taken > target:
        c.pause_ns = c.pause_ns // 2
    elif taken < target // 2:
        c.pause_ns += c.pause_ns // 4
    c.pause_ns = min(max(c.pause_ns, <uint64_t>PAUSE_MIN_NS), <uint64_t>PAUSE_MAX_NS)
    if taken > size // 2:
        return
    ts.tv_sec = 0
    ts.tv_nsec = <long>c.pause_ns
    c.wait_count += 1
    nanosleep(&ts, NULL)


cdef void _poll_idle(CaptureState *c, uint64_t now) noexcept nogil:
    """Sleep until a packet comes, the worker is wanted, or a flush is due."""
    cdef pollfd[2] waiting
    cdef uint64_t junk
    cdef int timeout_ms = POLL_MS
    cdef uint64_t due
    if c.fd < 0:
        timeout_ms = BLIND_MS
    if c.sink.flight_count:
        timeout_ms = 1
    elif c.sink.unflushed_since_ns:
        due = c.sink.unflushed_since_ns + c.flush_interval_ns
        timeout_ms = 0 if due <= now else <int>min(<uint64_t>timeout_ms,
                                                   (due - now) // 1000000 + 1)
    waiting[0].fd = c.fd
    waiting[0].events = POLLIN
    waiting[1].fd = c.wake_fd
    waiting[1].events = POLLIN
    c.wait_count += 1
    if poll(waiting, 2, timeout_ms) > 0 and waiting[1].revents:
        read(c.wake_fd, &junk, sizeof(junk))


cdef void _wait_for_copies(CaptureState *c, uint64_t now) noexcept nogil:
    cdef uint64_t taken = c.mirror.taken
    c.mirror.taken = 0
    if taken:
        _pause(c, taken, c.mirror.size)
    else:
        _poll_idle(c, now)


cdef void _wait(CaptureState *c, uint64_t now, uint32_t taken) noexcept nogil:
    if c.mirror != NULL:
        _wait_for_copies(c, now)
        return
    if c.busy_poll or xsk_ring_prod__needs_wakeup(c.fill):
        # Drives the NAPI when busy polling; else tells a driver that ran out of fill
        # descriptors that there are some again.
        recvfrom(c.fd, NULL, 0, MSG_DONTWAIT, NULL, NULL)
    if c.busy_poll:
        return
    if taken:
        _pause(c, taken, c.rx.size)
    else:
        _poll_idle(c, now)


cdef void wait_for_packets(CaptureState *c, uint64_t now, uint32_t taken) noexcept nogil:
    """Between two looks at the ring, of which the last brought `taken` packets."""
    if c.sink.clocks != NULL:
        wait_begins(c.sink.clocks, STAGE_PEEK)
    if c.refill != NULL:
        c.refill(c.source)
    else:
        _wait(c, now, taken)
    if c.sink.clocks != NULL:
        wait_ends(c.sink.clocks, STAGE_IDLE if c.refill == NULL else STAGE_SOURCE)
