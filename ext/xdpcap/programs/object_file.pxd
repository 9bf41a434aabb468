from libc.stdint cimport uint32_t

from xdpcap.clib.libbpf cimport bpf_map, bpf_object, bpf_program


cdef bpf_object *open_object(str path, bint foreign, bytes image=*) except NULL
cdef bpf_program *find_program(bpf_object *object, str path, str name) except NULL
cdef bpf_map *find_xsks_map(bpf_object *object, str path, bint foreign) except? NULL
cdef bpf_map *find_counters(bpf_object *object) noexcept
cdef str clock_of(bpf_object *object, str path)
cdef bint supports_frags(bpf_program *program) except -1
