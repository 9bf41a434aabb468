from libc.stdint cimport uint32_t

from xdpcap.clib.abi cimport xdpcap_settings
from xdpcap.clib.libbpf cimport bpf_object


cdef int write_settings(bpf_object *object, str path, const xdpcap_settings *settings) except -1
cdef int size_map(bpf_object *object, str name, uint32_t queue_count) except -1
