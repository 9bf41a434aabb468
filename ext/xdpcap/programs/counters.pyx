"""The counters that a program keeps, read by whoever has their map: its process or another.

Purpose: what needs a map and no program, so that a recording can be looked at from outside.
Owner: whichever thread calls; nothing here is kept.
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
Verdicts.__doc__ = "What the program did with a queue's packets: packets, then bytes."


def bind_rings(int rings_fd, int bound_fd, uint32_t queue, ring not None):
    """Have a program copy a queue's packets into the rings of a `CopyRing` (mirror mode).

    `bound_fd` is the map that says so where the rings can't be asked for, or -1.
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
    """The counters map behind `fd`: a `Verdicts` per queue, summed over the CPUs."""
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
    """Give a map a name in a BPF file system, which keeps it until the name is removed."""
    err = bpf_obj_pin(fd, os.fsencode(path))
    if err:
        raise KernelError(f"bpf_obj_pin({path})", err)


def read_pinned_verdicts(str path not None):
    """The counters pinned at `path`: a `Verdicts` per queue of the device.

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
            raise XdpcapError(f"{path} holds the counters of another version of xdpcap; ask that one")
        return read_verdicts(fd, info.max_entries)
    finally:
        close_fd(fd)


# -- programs -------------------------------------------------------------------------------

def program_id(int fd):
    """The id of the program behind a descriptor; raises KernelError."""
    cdef bpf_prog_info info
    cdef uint32_t size = sizeof(info)
    memset(&info, 0, sizeof(info))
    err = bpf_obj_get_info_by_fd(fd, &info, &size)
    if err:
        raise KernelError("bpf_obj_get_info_by_fd(program)", err)
    return info.id


def load_time_ns(uint32_t prog_id):
    """When the program of an id was loaded, since boot: ids are given anew; 0 for none."""
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
    """Whether the kernel has a program of this id; True as well when it is not to be asked."""
    cdef int fd = bpf_prog_get_fd_by_id(prog_id)
    if fd >= 0:
        close_fd(fd)
    return fd != -_errno.ENOENT
