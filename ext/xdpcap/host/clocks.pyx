"""A device's clock against the system's: by what to move a time from one to the other.

Purpose: the sender's due times are in CLOCK_MONOTONIC, a NIC wants its launch times in its
own PTP hardware clock, /dev/ptpN, and stamps what it receives by it, which a capture wants in
UTC.
Owner: one thread a DeviceClock.
Frees: nothing; the descriptor of /dev/ptpN is the caller's.

Each reading of the device stands between two of the system's clock, and is taken to be in
their middle: of several the one whose two are closest together counts.  The clocks drift
apart by up to some tens of microseconds a second, so it is done again every
CLOCK_STALE_NS: within that time 50 us a second make 1 us.  Three readings over PCIe take some
ten microseconds, 0.05% of it.

For UTC the driver is asked first, which can read both clocks at once where PCIe has precision
time measurement, or else take the system's right beside the register that holds the
device's.  An offset stays as it is while a reading does not contradict it: clocks that are
synchronised are then a constant apart, and the noise of reading them is not in the files.

Source relied on: Documentation/driver-api/ptp.rst; drivers/ptp/ptp_chardev.c;
include/linux/posix-timers.h (dynamic clock ids).
"""

from libc.errno cimport EAGAIN, EBUSY, EINTR, ETIMEDOUT, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from xdpcap.clib.posix cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec

from xdpcap.errors import KernelError


cdef extern from *:
    """
    #include <linux/ptp_clock.h>
    #include <sys/ioctl.h>
    """
    struct ptp_clock_time:
        int64_t sec
        uint32_t nsec
    struct ptp_sys_offset_extended:
        uint32_t n_samples
        ptp_clock_time[25][3] ts
    struct ptp_sys_offset_precise:
        ptp_clock_time device
        ptp_clock_time sys_realtime
    unsigned long PTP_SYS_OFFSET_EXTENDED, PTP_SYS_OFFSET_PRECISE
    int ioctl(int fd, unsigned long request, void *argument) nogil

cdef enum:
    CLOCK_STALE_NS = 20000000
    READINGS = 3
    # How a device's clock is compared with CLOCK_REALTIME, best first.
    WAY_AT_ONCE = 0         # both at one moment (PTP_SYS_OFFSET_PRECISE)
    WAY_BY_DRIVER = 1       # the driver reads the three (PTP_SYS_OFFSET_EXTENDED)
    WAY_BY_CALLS = 2        # three calls of clock_gettime()


cdef uint32_t _best(const ClockReading *readings, uint32_t count) noexcept nogil:
    """The reading that took the shortest."""
    cdef uint32_t i, best = 0
    for i in range(1, count):
        if (readings[i].after - readings[i].before
                < readings[best].after - readings[best].before):
            best = i
    return best


cdef int64_t _offset(const ClockReading *reading) noexcept nogil:
    """Device clock less the system's."""
    return reading.device - (reading.before + (reading.after - reading.before) // 2)


cdef bint _read(int clock, int64_t *out) noexcept nogil:
    cdef timespec ts
    if clock_gettime(clock, &ts):
        return False
    out[0] = <int64_t>ts.tv_sec * 1000000000 + ts.tv_nsec
    return True


cdef bint _by_calls(int system, int device, ClockReading *readings) noexcept nogil:
    """READINGS of the device between two of the system's clock each; False with errno."""
    cdef uint32_t i
    for i in range(READINGS):
        if not (_read(system, &readings[i].before)
                and _read(device, &readings[i].device)
                and _read(system, &readings[i].after)):
            return False
    return True


cdef bint clock_measure(DeviceClock *clock) noexcept nogil:
    """Measure the offset; False, and it stays, when the device's clock can't be read (errno)."""
    cdef ClockReading readings[READINGS]
    if not _by_calls(CLOCK_MONOTONIC, clock.id, readings):
        return False
    clock.offset_ns = _offset(&readings[_best(readings, READINGS)])
    clock.stale_ns = <uint64_t>readings[READINGS - 1].after + CLOCK_STALE_NS
    return True


# ---------------------------------------------------------------- against UTC

cdef int64_t _ns(const ptp_clock_time *time) noexcept nogil:
    return time.sec * 1000000000 + time.nsec


cdef bint _at_once(int fd, ClockReading *reading) noexcept nogil:
    cdef ptp_sys_offset_precise both
    if ioctl(fd, PTP_SYS_OFFSET_PRECISE, &both):
        return False
    reading.before = reading.after = _ns(&both.sys_realtime)
    reading.device = _ns(&both.device)
    return True


cdef bint _by_driver(int fd, ClockReading *readings) noexcept nogil:
    cdef ptp_sys_offset_extended samples
    cdef uint32_t i
    # What is reserved must be zero, and names the system's clock in later kernels.
    memset(&samples, 0, sizeof(samples))
    samples.n_samples = READINGS
    if ioctl(fd, PTP_SYS_OFFSET_EXTENDED, &samples):
        return False
    for i in range(READINGS):
        readings[i].before = _ns(&samples.ts[i][0])
        readings[i].device = _ns(&samples.ts[i][1])
        readings[i].after = _ns(&samples.ts[i][2])
    return True


cdef bint _passing() noexcept nogil:
    """Whether what failed may be there another time."""
    return errno == EAGAIN or errno == EBUSY or errno == EINTR or errno == ETIMEDOUT


cdef uint32_t _look(DeviceClock *clock, ClockReading *readings) noexcept nogil:
    """How many readings the best way that the clock has gave; 0 with errno."""
    # CLOCKID_TO_FD(); other clocks than those of devices are there for tests.
    cdef int fd = ~(clock.id >> 3) if clock.id < 0 else -1
    if clock.way == WAY_AT_ONCE:
        if _at_once(fd, readings):
            return 1
        if not _passing():
            clock.way = WAY_BY_DRIVER
    if clock.way != WAY_BY_CALLS:
        if _by_driver(fd, readings):
            return READINGS
        if not _passing():
            clock.way = WAY_BY_CALLS
    return READINGS if _by_calls(CLOCK_REALTIME, clock.id, readings) else 0


cdef void _follow(DeviceClock *clock, const ClockReading *reading) noexcept nogil:
    """Believe a reading, which is right to half of the time that it took, if it has news."""
    cdef int64_t ahead = _offset(reading), doubt = (reading.after - reading.before + 1) // 2
    if not clock.known or not -doubt <= ahead - clock.offset_ns <= doubt:
        clock.offset_ns = ahead
    clock.known = True


cdef bint ahead_measure(DeviceClock *clock) noexcept nogil:
    """Measure by what the device's clock is ahead of UTC, as `offset_ns`.

    False, and it stays, when the device's clock can't be read (errno).
    """
    cdef ClockReading readings[READINGS]
    cdef int64_t now = 0
    cdef uint32_t count = _look(clock, readings)
    _read(CLOCK_MONOTONIC, &now)  # which leaves errno alone
    clock.stale_ns = <uint64_t>now + CLOCK_STALE_NS
    if count == 0:
        return False
    _follow(clock, &readings[_best(readings, count)])
    return True


# ---------------------------------------------------------------- from Python

def dynamic_clock(int descriptor):
    """The clock id of an open /dev/ptpN, for clock_gettime(2)."""
    return (~descriptor << 3) | 3


def best_offset(readings not None):
    """Device clock less the system's from (before, device, after) readings, ns."""
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
        return _offset(&copied[_best(copied, count)])
    finally:
        free(copied)


def measured_offset(int clock_id):
    """What to add to CLOCK_MONOTONIC for the time of a clock, ns; KernelError if unreadable."""
    cdef DeviceClock clock
    clock.id = clock_id
    if not clock_measure(&clock):
        raise KernelError(f"clock_gettime({clock_id})", errno)
    return clock.offset_ns


cdef class Ahead:
    """By what a clock is ahead of UTC, as a worker follows it: `measure()` again and again."""

    cdef DeviceClock clock

    def __cinit__(self, int clock_id):
        self.clock.id = clock_id

    def measure(self):
        """Nanoseconds, which stay the same while nothing contradicts them; KernelError."""
        if not ahead_measure(&self.clock):
            raise KernelError(f"clock_gettime({self.clock.id})", errno)
        return self.clock.offset_ns

    def follow(self, before, device, after):
        """The same from a reading that was made elsewhere."""
        cdef ClockReading reading
        reading.before, reading.device, reading.after = before, device, after
        _follow(&self.clock, &reading)
        return self.clock.offset_ns

    @property
    def way(self):
        """How the two were compared: "at once", "by the driver" or "by calls"."""
        return ("at once", "by the driver", "by calls")[self.clock.way]
