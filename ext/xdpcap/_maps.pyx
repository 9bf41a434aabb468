"""BPF maps by their descriptors: the counters that a program keeps.

Purpose: what needs a map and no program, so that another process can read a recording's.
Owner: whichever thread calls; nothing here is kept.
Frees: nothing.

Source relied on: kernel/bpf/arraymap.c, bpf_percpu_array_copy().
"""

from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from xdpcap.libbpf cimport *

from collections import namedtuple

from xdpcap.errors import KernelError


cdef extern from "xdpcap_abi.h" nogil:
    enum:
        XDPCAP_VERDICTS


# enum xdpcap_verdict, in its order.
VERDICTS = ("redirected", "passed", "dropped", "filtered", "sampled_out", "mirrored",
            "ring_lost")
Verdicts = namedtuple("Verdicts", [*VERDICTS, *(f"{name}_bytes" for name in VERDICTS)],
                      defaults=[0] * (2 * len(VERDICTS)))
Verdicts.__doc__ = "What the program did with a queue's packets: packets, then bytes."


cpdef int possible_cpus() except -1:
    """How many CPUs this machine may have: so many values has an entry of a per-CPU map."""
    cdef int count = libbpf_num_possible_cpus()
    if count <= 0:
        raise KernelError("reading /sys/devices/system/cpu/possible", count)
    return count


def read_verdicts(int fd, uint32_t queue_count):
    """The counters map behind `fd`: a `Verdicts` per queue, summed over the CPUs."""
    cdef int cpu_count = possible_cpus()
    cdef size_t words = 2 * XDPCAP_VERDICTS
    cdef uint64_t *values
    cdef uint64_t[2 * XDPCAP_VERDICTS] sums
    cdef uint32_t queue
    cdef size_t cpu, word
    values = <uint64_t *>malloc(cpu_count * words * sizeof(uint64_t))
    if values == NULL:
        raise MemoryError
    result = []
    try:
        for queue in range(queue_count):
            memset(sums, 0, sizeof(sums))
            if bpf_map_lookup_elem(fd, &queue, values):
                raise KernelError(f"bpf_map_lookup_elem(counters, queue {queue})", errno)
            for cpu in range(<size_t>cpu_count):
                for word in range(words):
                    sums[word] += values[cpu * words + word]
            # struct xdpcap_count: packets, bytes.
            packets = [sums[word] for word in range(0, words, 2)]
            result.append(Verdicts(*packets, *(sums[word] for word in range(1, words, 2))))
    finally:
        free(values)
    return result
