"""Write the recording program's settings and map sizes before it is loaded.

Purpose: write `struct xdpcap_settings` into an opened object, and reject settings that this
build of the program does not support.
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


cdef int write_settings(bpf_object *object, str path, const xdpcap_settings *settings) except -1:
    """Write the settings into the object; UsageError for what the build does not support."""
    cdef size_t size = 0
    cdef xdpcap_settings *target
    cdef bpf_map *found = bpf_object__find_map_by_name(object, XDPCAP_SETTINGS)
    _enable_dead_man(object, path, found != NULL, settings.dead_man_ms)
    if found == NULL:
        if settings.clock != XDPCAP_CLOCK_MONOTONIC or settings.flow_hash:
            raise UsageError(f"{path} supports only the monotonic clock, and no hash")
        if settings.sample > 1:
            raise UsageError("--sample needs Linux 5.3 or later; leave it out")
        if settings.filter != XDPCAP_FILTER_NONE:
            raise UsageError("a filter needs Linux 5.10 or later; leave it out")
        return 0
    target = <xdpcap_settings *>bpf_map__initial_value(found, &size)
    if target == NULL or size < sizeof(xdpcap_settings):
        raise UsageError(f"{path} has settings of {size} bytes; `make setup` rebuilds it")
    target[0] = settings[0]
    target.cpus = possible_cpu_count()
    return 0


cdef int _enable_dead_man(bpf_object *object, str path, bint has_settings,
                          uint32_t dead_man_ms) except -1:
    """Create the map of the dead man's handle only if that is used."""
    cdef bpf_map *alive = bpf_object__find_map_by_name(object, XDPCAP_ALIVE_MAP)
    if alive == NULL or not has_settings:
        if dead_man_ms:
            raise UsageError(f"{path} has no dead man's handle; leave out --dead-man")
    elif not dead_man_ms:
        bpf_map__set_autocreate(alive, False)
    return 0


cdef int size_map(bpf_object *object, str name, uint32_t queue_count) except -1:
    """Size a map for the queues, if there is one of that name."""
    cdef bpf_map *found = bpf_object__find_map_by_name(object, name.encode())
    if found == NULL:
        return 0
    if bpf_map__type(found) == BPF_MAP_TYPE_PERF_EVENT_ARRAY:
        queue_count *= possible_cpu_count()  # a ring per queue and CPU
    bpf_map__set_max_entries(found, queue_count)
    return 0
