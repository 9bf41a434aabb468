"""Read an XDP program's counters map, in the recorder's process or another.

Purpose: functions that need a map's descriptor or a program's id, but no `Program`.
Owner: the calling thread; there is no state.
Frees: its own descriptors, before it returns.

Source relied on: kernel/bpf/arraymap.c, bpf_percpu_array_copy(); kernel/bpf/inode.c;
kernel/bpf/syscall.c, bpf_prog_get_fd_by_id().
"""

from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from xdpcap.clib.abi cimport XDPCAP_VERDICTS, xdpcap_counters
from xdpcap.clib.libbpf cimport *
from xdpcap.clib.posix cimport close_fd

import errno as _errno
import os
from collections import namedtuple

from xdpcap.errors import KernelError, XdpcapError
from xdpcap.host.kernel import possible_cpu_count


# enum xdpcap_verdict, in its order.
VERDICTS = ("redirected", "passed", "dropped", "filtered", "sampled_out", "mirrored",
            "ring_lost")
Verdicts = namedtuple("Verdicts", [*VERDICTS, *(f"{name}_bytes" for name in VERDICTS)],
                      defaults=[0] * (2 * len(VERDICTS)))
Verdicts.__doc__ = "Counts of a queue's packets by verdict: packets, then bytes."


def bind_rings(int rings_fd, int bound_fd, uint32_t queue, ring not None):
    """Make a program copy a queue's packets into the rings of a `CopyRing` (mirror mode).

    `bound_fd` is the map of bound queues, for programs that can't check the rings, or -1.
    """
    cdef uint32_t yes = 1, index
    cdef int fd
    for number, fd in ring.descriptors:
        index = queue * ring.count + number
        if bpf_map_update_elem(rings_fd, &index, &fd, BPF_ANY):
            raise KernelError(f"bpf_map_update_elem(rings_map, {index})", errno)
    if bound_fd >= 0:
        bpf_map_update_elem(bound_fd, &queue, &yes, BPF_ANY)


def read_verdicts(int fd, uint32_t queue_count):
    """Read the counters map `fd`: a `Verdicts` per queue, summed over the CPUs."""
    cdef int cpu_count = possible_cpu_count()
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


# -- pins -----------------------------------------------------------------------------------

def pin(int fd, str path not None):
    """Pin a map in a BPF file system, which keeps it until the path is removed."""
    err = bpf_obj_pin(fd, os.fsencode(path))
    if err:
        raise KernelError(f"bpf_obj_pin({path})", err)


def read_pinned_verdicts(str path not None):
    """Read the counters pinned at `path`: a `Verdicts` per queue of the device.

    Raises KernelError, and XdpcapError for a map of another layout.
    """
    cdef bpf_map_info info
    cdef uint32_t size = sizeof(info)
    cdef int fd = bpf_obj_get(os.fsencode(path))
    if fd < 0:
        hint = "needs CAP_BPF; run with sudo" if fd == -_errno.EPERM else ""
        raise KernelError(f"bpf_obj_get({path})", fd, hint)
    try:
        memset(&info, 0, sizeof(info))
        err = bpf_obj_get_info_by_fd(fd, &info, &size)
        if err:
            raise KernelError(f"bpf_obj_get_info_by_fd({path})", err)
        if info.type != BPF_MAP_TYPE_PERCPU_ARRAY or info.value_size != sizeof(xdpcap_counters):
            raise XdpcapError(f"{path} holds the counters of another version of xdpcap; use that one")
        return read_verdicts(fd, info.max_entries)
    finally:
        close_fd(fd)


# -- programs -------------------------------------------------------------------------------

def program_id(int fd):
    """The id of a program, by its descriptor; raises KernelError."""
    cdef bpf_prog_info info
    cdef uint32_t size = sizeof(info)
    memset(&info, 0, sizeof(info))
    err = bpf_obj_get_info_by_fd(fd, &info, &size)
    if err:
        raise KernelError("bpf_obj_get_info_by_fd(program)", err)
    return info.id


def load_time_ns(uint32_t prog_id):
    """The load time of a program since boot, which tells reused ids apart; 0 for no program."""
    cdef bpf_prog_info info
    cdef uint32_t size = sizeof(info)
    cdef int fd = bpf_prog_get_fd_by_id(prog_id)
    if fd < 0:
        return 0
    memset(&info, 0, sizeof(info))
    err = bpf_obj_get_info_by_fd(fd, &info, &size)
    close_fd(fd)
    return 0 if err else info.load_time


def is_loaded(uint32_t prog_id):
    """Whether the kernel has a program of this id; also True without permission to query it."""
    cdef int fd = bpf_prog_get_fd_by_id(prog_id)
    if fd >= 0:
        close_fd(fd)
    return fd != -_errno.ENOENT
