"""What user space decides of a program of ours before it is loaded: its settings, its maps' sizes.

Purpose: write `struct xdpcap_settings` into an opened object, and refuse what that build
of the program can't do.
Owner: the control thread.
Frees: nothing.

Source relied on: bpf/xdpcap_abi.h; libbpf 1.1, src/libbpf.c.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from xdpcap.clib.abi cimport *
from xdpcap.clib.libbpf cimport *

from xdpcap.errors import UsageError
from xdpcap.host.kernel import possible_cpu_count


cdef int write_settings(bpf_object *object, str path, const xdpcap_settings *wanted) except -1:
    """Write the settings where the program has them; UsageError for what it can't do."""
    cdef size_t size = 0
    cdef xdpcap_settings *settings
    cdef bpf_map *found = bpf_object__find_map_by_name(object, XDPCAP_SETTINGS)
    _make_handle(object, path, found != NULL, wanted.dead_man_ms)
    if found == NULL:
        if wanted.clock != XDPCAP_CLOCK_MONOTONIC or wanted.flow_hash:
            raise UsageError(f"{path} knows the monotonic clock only, and no hash")
        if wanted.sample > 1:
            raise UsageError("--sample needs Linux 5.3 or later; leave it out")
        if wanted.filter != XDPCAP_FILTER_NONE:
            raise UsageError("a filter needs Linux 5.10 or later; leave it out")
        return 0
    settings = <xdpcap_settings *>bpf_map__initial_value(found, &size)
    if settings == NULL or size < sizeof(xdpcap_settings):
        raise UsageError(f"{path} has settings of {size} bytes; `make setup` builds it anew")
    settings[0] = wanted[0]
    settings.cpus = possible_cpu_count()
    return 0


cdef int _make_handle(bpf_object *object, str path, bint has_settings,
                      uint32_t dead_man_ms) except -1:
    """The map for the recorder's word, where it is looked at; no such map otherwise."""
    cdef bpf_map *alive = bpf_object__find_map_by_name(object, XDPCAP_ALIVE_MAP)
    if alive == NULL or not has_settings:
        if dead_man_ms:
            raise UsageError(f"{path} has no dead man's handle; leave out --dead-man")
    elif not dead_man_ms:
        bpf_map__set_autocreate(alive, False)
    return 0


cdef int size_map(bpf_object *object, str name, uint32_t queue_count) except -1:
    """Room for the queues in a map, if there is one of that name."""
    cdef bpf_map *found = bpf_object__find_map_by_name(object, name.encode())
    if found == NULL:
        return 0
    if bpf_map__type(found) == BPF_MAP_TYPE_PERF_EVENT_ARRAY:
        queue_count *= possible_cpu_count()  # a ring for each queue and CPU
    bpf_map__set_max_entries(found, queue_count)
    return 0
