"""A device's clock against CLOCK_MONOTONIC: by what to move a time from one to the other.

Purpose: the sender's due times are in CLOCK_MONOTONIC, a NIC wants its launch times in its
own PTP hardware clock, /dev/ptpN.
Owner: one thread a DeviceClock.
Frees: nothing; the descriptor of /dev/ptpN is the caller's.

Each reading of the device stands between two of CLOCK_MONOTONIC, and is taken to be in
their middle: of several the one whose two are closest together counts.  The clocks drift
apart by up to some tens of microseconds a second, so it is done again every
CLOCK_STALE_NS: within that time 50 us a second make 1 us.  Three readings over PCIe take some
ten microseconds, 0.05% of it.

Source relied on: Documentation/driver-api/ptp.rst; include/linux/posix-timers.h (dynamic
clock ids).
"""

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from xdpcap.errors import KernelError


cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *ts)
    int CLOCK_MONOTONIC

cdef enum:
    CLOCK_STALE_NS = 20000000
    READINGS = 3


cdef int64_t _best_offset(const ClockReading *readings, uint32_t count) noexcept nogil:
    """Device clock less CLOCK_MONOTONIC, by the reading that took the shortest."""
    cdef uint32_t i, best = 0
    for i in range(1, count):
        if (readings[i].after - readings[i].before
                < readings[best].after - readings[best].before):
            best = i
    return readings[best].device - (
        readings[best].before + (readings[best].after - readings[best].before) // 2)


cdef bint _read(int clock, int64_t *out) noexcept nogil:
    cdef timespec ts
    if clock_gettime(clock, &ts):
        return False
    out[0] = <int64_t>ts.tv_sec * 1000000000 + ts.tv_nsec
    return True


cdef bint clock_measure(DeviceClock *clock) noexcept nogil:
    """Measure the offset; False, and it stays, when the device's clock can't be read (errno)."""
    cdef ClockReading readings[READINGS]
    cdef uint32_t i
    for i in range(READINGS):
        if not (_read(CLOCK_MONOTONIC, &readings[i].before)
                and _read(clock.id, &readings[i].device)
                and _read(CLOCK_MONOTONIC, &readings[i].after)):
            return False
    clock.offset_ns = _best_offset(readings, READINGS)
    clock.stale_ns = <uint64_t>readings[READINGS - 1].after + CLOCK_STALE_NS
    return True


def dynamic_clock(int descriptor):
    """The clock id of an open /dev/ptpN, for clock_gettime(2)."""
    return (~descriptor << 3) | 3


def best_offset(readings not None):
    """Device clock less CLOCK_MONOTONIC from (before, device, after) readings, ns."""
    cdef uint32_t i, count = <uint32_t>len(readings)
    cdef ClockReading *copied
    if count == 0:
        raise ValueError("no reading")
    copied = <ClockReading *>calloc(count, sizeof(ClockReading))
    if copied == NULL:
        raise MemoryError
    try:
        for i in range(count):
            copied[i].before, copied[i].device, copied[i].after = readings[i]
        return _best_offset(copied, count)
    finally:
        free(copied)


def measured_offset(int clock_id):
    """What to add to CLOCK_MONOTONIC for the time of a clock, ns; KernelError if unreadable."""
    cdef DeviceClock clock
    clock.id = clock_id
    if not clock_measure(&clock):
        raise KernelError(f"clock_gettime({clock_id})", errno)
    return clock.offset_ns
