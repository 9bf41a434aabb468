from libc.stdint cimport uint64_t


# What a worker does with its time; docs/bench-record.md tells what each means.
cdef enum Stage:
    STAGE_PEEK = 0      # the ring: look, release, refill, and the look around between batches
    STAGE_ENCODE = 1    # records and the copy of the packets' bytes
    STAGE_REAP = 2      # taking completions of writes
    STAGE_WRITE = 3     # handing a block over: io_uring_enter() or pwrite()
    STAGE_DISK = 4      # waiting for a block to come back, because all are under way
    STAGE_IDLE = 5      # waiting for packets
    STAGE_SOURCE = 6    # making packets, where they are simulated
    STAGE_COUNT = 7


# A worker that is measured always is in one stage: each reading of the clock ends one.  The
# thread's CPU time takes a system call to read, so it is read where a worker may leave the
# CPU only; the first three stages share one sum of it, under STAGE_PEEK.
cdef struct StageClocks:
    uint64_t now_ns                     # the last reading of CLOCK_MONOTONIC
    uint64_t thread_ns                  # the last reading of the thread's CPU time
    uint64_t switches                   # times the thread had gone to sleep, when a write began
    uint64_t[STAGE_COUNT] elapsed_ns
    uint64_t[STAGE_COUNT] cpu_ns
    uint64_t blocked_ns                 # of STAGE_WRITE: asleep in the system call
    uint64_t user_ns                    # the thread's CPU time as the kernel divides it,
    uint64_t system_ns                  # by the tick: right on average only


cdef uint64_t stage_clock() noexcept nogil

# Of one run of the loop.
cdef void clocks_begin(StageClocks *c) noexcept nogil
cdef void clocks_end(StageClocks *c) noexcept nogil

# A wait begins, where the stage before it was `ended`, and is over.
cdef void wait_begins(StageClocks *c, int ended) noexcept nogil
cdef void wait_ends(StageClocks *c, int waited) noexcept nogil

# The same for the system call that writes.
cdef void write_begins(StageClocks *c, int ended) noexcept nogil
cdef void write_ends(StageClocks *c) noexcept nogil


cdef inline void stage_ends(StageClocks *c, int stage) noexcept nogil:
    cdef uint64_t now = stage_clock()
    c.elapsed_ns[stage] += now - c.now_ns
    c.now_ns = now


cdef class StageTimes:
    cdef StageClocks clocks
