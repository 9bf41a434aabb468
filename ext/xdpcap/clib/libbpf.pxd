"""Declarations of libbpf (bpf.h, libbpf.h, btf.h) and the kernel's bpf.h; nothing else."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stddef cimport size_t


cdef extern from "<linux/bpf.h>" nogil:
    int BPF_XDP
    int BPF_F_TEST_XDP_LIVE_FRAMES
    int BPF_ANY
    int BPF_MAP_TYPE_PERF_EVENT_ARRAY
    int BPF_MAP_TYPE_RINGBUF
    int BPF_MAP_TYPE_PERCPU_ARRAY
    int BPF_MAP_TYPE_XSKMAP
    int BPF_PROG_TYPE_EXT
    int BPF_PROG_TYPE_XDP

    enum xdp_action:
        XDP_ABORTED
        XDP_DROP
        XDP_PASS
        XDP_TX
        XDP_REDIRECT

    struct bpf_prog_info:
        uint32_t type
        uint32_t id
        uint64_t load_time
        char *name
        uint32_t nr_map_ids
        uint64_t map_ids

    struct bpf_func_info:
        uint32_t insn_off
        uint32_t type_id

    struct bpf_map_info:
        uint32_t type
        uint32_t value_size
        uint32_t max_entries

    struct xdp_md:
        uint32_t data
        uint32_t data_end
        uint32_t data_meta
        uint32_t ingress_ifindex
        uint32_t rx_queue_index
        uint32_t egress_ifindex


cdef extern from "<linux/btf.h>" nogil:
    struct btf_type:
        uint32_t name_off


cdef extern from "<linux/if_link.h>" nogil:
    int XDP_FLAGS_UPDATE_IF_NOEXIST
    int XDP_FLAGS_SKB_MODE
    int XDP_FLAGS_DRV_MODE
    int XDP_FLAGS_HW_MODE


cdef extern from "<bpf/btf.h>" nogil:
    struct btf:
        pass
    btf *btf__load_from_kernel_by_id(uint32_t id)
    const btf_type *btf__type_by_id(const btf *btf, uint32_t id)
    const char *btf__name_by_offset(const btf *btf, uint32_t offset)
    void btf__free(btf *btf)


cdef extern from "<bpf/libbpf.h>" nogil:
    struct bpf_object:
        pass
    struct bpf_program:
        pass
    struct bpf_map:
        pass
    struct bpf_link:
        pass

    struct bpf_xdp_attach_opts:
        size_t sz
        int old_prog_fd

    struct bpf_xdp_query_opts:
        size_t sz
        uint32_t prog_id
        uint32_t drv_prog_id
        uint32_t hw_prog_id
        uint32_t skb_prog_id
        unsigned char attach_mode

    struct bpf_object_open_opts:
        size_t sz
        const char *object_name

    bpf_object *bpf_object__open_file(const char *path, const void *opts)
    bpf_object *bpf_object__open_mem(const void *buf, size_t size, const void *opts)
    int bpf_object__load(bpf_object *obj)
    void bpf_object__close(bpf_object *obj)
    bpf_program *bpf_object__find_program_by_name(const bpf_object *obj, const char *name)
    bpf_program *bpf_object__next_program(const bpf_object *obj, bpf_program *prog)
    bpf_map *bpf_object__find_map_by_name(const bpf_object *obj, const char *name)
    bpf_map *bpf_object__next_map(const bpf_object *obj, const bpf_map *map)
    btf *bpf_object__btf(const bpf_object *obj)
    int bpf_program__fd(const bpf_program *prog)
    int bpf_program__type(const bpf_program *prog)
    int bpf_program__expected_attach_type(const bpf_program *prog)
    const char *bpf_program__section_name(const bpf_program *prog)
    int bpf_program__set_autoload(bpf_program *prog, bint autoload)
    const char *bpf_program__name(const bpf_program *prog)
    int bpf_program__set_log_buf(bpf_program *prog, char *buf, size_t size)
    int bpf_program__set_type(bpf_program *prog, int type)
    int bpf_program__set_expected_attach_type(bpf_program *prog, int type)
    int bpf_program__set_attach_target(bpf_program *prog, int prog_fd, const char *name)
    void bpf_program__set_ifindex(bpf_program *prog, uint32_t ifindex)
    int bpf_map__set_ifindex(bpf_map *map, uint32_t ifindex)
    uint32_t bpf_program__flags(const bpf_program *prog)
    int bpf_program__set_flags(bpf_program *prog, uint32_t flags)
    int bpf_program__set_log_level(bpf_program *prog, uint32_t level)
    bpf_link *bpf_program__attach_trace(const bpf_program *prog)
    int bpf_link__destroy(bpf_link *link)
    int bpf_map__fd(const bpf_map *map)
    int bpf_map__set_autocreate(bpf_map *map, bint autocreate)
    const char *bpf_map__name(const bpf_map *map)
    int bpf_map__type(const bpf_map *map)
    uint32_t bpf_map__key_size(const bpf_map *map)
    uint32_t bpf_map__value_size(const bpf_map *map)
    int bpf_map__set_max_entries(bpf_map *map, uint32_t max_entries)
    uint32_t bpf_map__max_entries(const bpf_map *map)
    int bpf_map__set_initial_value(bpf_map *map, const void *data, size_t size)
    void *bpf_map__initial_value(bpf_map *map, size_t *psize)
    int bpf_xdp_attach(int ifindex, int prog_fd, uint32_t flags, const bpf_xdp_attach_opts *opts)
    int bpf_xdp_detach(int ifindex, uint32_t flags, const bpf_xdp_attach_opts *opts)
    int bpf_xdp_query(int ifindex, int flags, bpf_xdp_query_opts *opts)
    uint32_t libbpf_major_version()
    uint32_t libbpf_minor_version()
    void libbpf_set_print(void *fn)


cdef extern from "<bpf/bpf.h>" nogil:
    struct bpf_link_create_opts:
        size_t sz
        uint32_t flags

    struct bpf_test_run_opts:
        size_t sz
        const void *data_in
        void *data_out
        uint32_t data_size_in
        uint32_t data_size_out
        const void *ctx_in
        void *ctx_out
        uint32_t ctx_size_in
        uint32_t ctx_size_out
        uint32_t retval
        int repeat
        uint32_t duration
        uint32_t flags
        uint32_t cpu
        uint32_t batch_size

    int bpf_link_create(int prog_fd, int target_fd, int attach_type,
                        const bpf_link_create_opts *opts)
    int bpf_map_create(int map_type, const char *name, uint32_t key_size, uint32_t value_size,
                       uint32_t max_entries, const void *opts)
    int bpf_prog_get_fd_by_id(uint32_t id)
    int bpf_map_get_fd_by_id(uint32_t id)
    int bpf_obj_get(const char *path)
    int bpf_obj_pin(int fd, const char *path)
    int bpf_obj_get_info_by_fd(int fd, void *info, uint32_t *info_len)
    int bpf_map_lookup_elem(int fd, const void *key, void *value)
    int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)
    int bpf_map_delete_elem(int fd, const void *key)
    int bpf_prog_test_run_opts(int prog_fd, bpf_test_run_opts *opts)
