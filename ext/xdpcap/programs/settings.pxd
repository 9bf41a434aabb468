from libc.stdint cimport uint32_t

from xdpcap.clib.libbpf cimport bpf_object


cdef extern from "xdpcap_abi.h" nogil:
    struct xdpcap_settings:
        uint32_t clock
        uint32_t flow_hash
        uint32_t driver_metadata
        uint32_t snaplen
        uint32_t cpus
        uint32_t sample
        uint32_t sample_by
        uint32_t dead_man_ms
        uint32_t filter


cdef int write_settings(bpf_object *object, str path, const xdpcap_settings *wanted) except -1
cdef int size_map(bpf_object *object, str name, uint32_t queue_count) except -1
