from libc.stdint cimport int64_t, uint64_t

from xdpcap.clib.posix cimport clock_gettime, timespec


cdef inline uint64_t clock_ns(int clock) noexcept nogil:
    """What one of the system's own clocks reads, CLOCK_MONOTONIC and the like."""
    cdef timespec ts
    clock_gettime(clock, &ts)
    return <uint64_t>ts.tv_sec * 1000000000 + <uint64_t>ts.tv_nsec


# One look at a device's clock between two at the system's, all in ns.
cdef struct ClockReading:
    int64_t before
    int64_t device
    int64_t after


cdef struct DeviceClock:
    int id                  # clockid_t
    int64_t offset_ns       # what to add to the system's clock
    uint64_t stale_ns       # when to measure again, CLOCK_MONOTONIC
    int way                 # how it is compared with CLOCK_REALTIME: the best that it has
    bint known              # there is such an offset


cdef bint clock_measure(DeviceClock *clock) noexcept nogil
cdef bint ahead_measure(DeviceClock *clock) noexcept nogil


cdef inline void clock_refresh(DeviceClock *clock, uint64_t now) noexcept nogil:
    """Measure again if it is time; what can't be read stays as it was."""
    if now >= clock.stale_ns:
        clock_measure(clock)
