"""The clocks of a worker that is measured: which stage its time went to.

Purpose: add up, stage by stage, how long a worker took and how much of that it had a CPU.
A worker that is not measured has no clocks, and asks once a batch whether it has.
Owner: the worker's thread; another may read once that has ended.
Frees: when collected; the sink that points to the clocks holds a reference.

Source relied on: clock_gettime(2); getrusage(2), RUSAGE_THREAD;
kernel/time/posix-cpu-timers.c (CLOCK_THREAD_CPUTIME_ID is exact to the moment, the division
into user and system time is the tick's).
"""

from libc.stdint cimport uint64_t

from xdpcap.clib.posix cimport CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID
from xdpcap.host.clocks cimport clock_ns


cdef extern from *:
    """
    #include <sys/resource.h>
    static inline uint64_t xdpcap_timeval_ns(struct timeval tv) {
        return (uint64_t)tv.tv_sec * 1000000000u + (uint64_t)tv.tv_usec * 1000u;
    }
    """
    struct timeval:
        pass
    uint64_t timeval_ns "xdpcap_timeval_ns"(timeval tv) nogil
    struct rusage_t "rusage":
        timeval ru_utime
        timeval ru_stime
        long ru_nvcsw
    int getrusage(int who, rusage_t *usage) nogil
    int RUSAGE_THREAD


cdef uint64_t stage_clock() noexcept nogil:
    return clock_ns(CLOCK_MONOTONIC)


cdef void _charge(StageClocks *c, int stage) noexcept nogil:
    """The CPU time since the last reading was `stage`'s."""
    cdef uint64_t now = clock_ns(CLOCK_THREAD_CPUTIME_ID)
    c.cpu_ns[stage] += now - c.thread_ns
    c.thread_ns = now


cdef uint64_t _switches() noexcept nogil:
    cdef rusage_t usage
    getrusage(RUSAGE_THREAD, &usage)
    return <uint64_t>usage.ru_nvcsw


cdef void clocks_begin(StageClocks *c) noexcept nogil:
    cdef rusage_t usage
    getrusage(RUSAGE_THREAD, &usage)
    c.user_ns -= timeval_ns(usage.ru_utime)
    c.system_ns -= timeval_ns(usage.ru_stime)
    c.thread_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID)
    c.now_ns = stage_clock()


cdef void clocks_end(StageClocks *c) noexcept nogil:
    cdef rusage_t usage
    wait_begins(c, STAGE_PEEK)
    getrusage(RUSAGE_THREAD, &usage)
    c.user_ns += timeval_ns(usage.ru_utime)
    c.system_ns += timeval_ns(usage.ru_stime)


cdef void wait_begins(StageClocks *c, int ended) noexcept nogil:
    stage_ends(c, ended)
    _charge(c, STAGE_PEEK)


cdef void wait_ends(StageClocks *c, int waited) noexcept nogil:
    _charge(c, waited)
    stage_ends(c, waited)


cdef void write_begins(StageClocks *c, int ended) noexcept nogil:
    wait_begins(c, ended)
    c.switches = _switches()


cdef void write_ends(StageClocks *c) noexcept nogil:
    cdef uint64_t elapsed = c.elapsed_ns[<int>STAGE_WRITE], cpu = c.cpu_ns[<int>STAGE_WRITE]
    wait_ends(c, STAGE_WRITE)
    elapsed = c.elapsed_ns[<int>STAGE_WRITE] - elapsed
    cpu = c.cpu_ns[<int>STAGE_WRITE] - cpu
    if elapsed > cpu and _switches() != c.switches:
        c.blocked_ns += elapsed - cpu


cdef class StageTimes:
    """The clocks of one worker: give them to `FileSink.measure()` before it runs."""

    @property
    def readings(self):
        """Nanoseconds by name: of each stage, its CPU time (`write_cpu`), and the thread's own.

        `stage_account.StageAccount.of()` makes sense of them.
        """
        cdef StageClocks *c = &self.clocks
        names = {"peek": STAGE_PEEK, "encode": STAGE_ENCODE, "reap": STAGE_REAP,
                 "write": STAGE_WRITE, "disk": STAGE_DISK, "idle": STAGE_IDLE,
                 "source": STAGE_SOURCE}
        found = {name: c.elapsed_ns[<int>stage] for name, stage in names.items()}
        # The first three share one sum.
        found["awake_cpu"] = c.cpu_ns[<int>STAGE_PEEK]
        for name in ("write", "disk", "idle", "source"):
            found[f"{name}_cpu"] = c.cpu_ns[<int>names[name]]
        found["write_blocked"] = c.blocked_ns
        found["user"] = c.user_ns
        found["system"] = c.system_ns
        return found
