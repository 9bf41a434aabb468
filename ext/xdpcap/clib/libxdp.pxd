"""Declarations of libxdp's xsk.h, libxdp.h and the kernel's if_xdp.h; nothing else.

The ring functions are static inline in xsk.h and are called directly.  Constants
that Debian 12's if_xdp.h (6.1) lacks are defined here with the kernel's values
(include/uapi/linux/if_xdp.h).
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from xdpcap.clib.libbpf cimport bpf_object


cdef extern from *:
    """
    #include <xdp/xsk.h>
    #ifndef XDP_USE_SG
    #define XDP_USE_SG (1 << 4)          /* 6.6: bind flag, packets of several frames */
    #endif
    #ifndef XDP_PKT_CONTD
    #define XDP_PKT_CONTD (1 << 0)       /* 6.6: xdp_desc.options, more frames follow */
    #endif
    #ifndef XDP_USE_NEED_WAKEUP
    #define XDP_USE_NEED_WAKEUP (1 << 3) /* 5.4 */
    #endif
    #ifndef AF_XDP
    #define AF_XDP 44
    #endif
    #ifndef SOL_XDP
    #define SOL_XDP 283
    #endif
    #ifndef SO_PREFER_BUSY_POLL
    #define SO_PREFER_BUSY_POLL 69       /* 5.11 */
    #endif
    #ifndef SO_BUSY_POLL_BUDGET
    #define SO_BUSY_POLL_BUDGET 70       /* 5.11 */
    #endif
    """
    int AF_XDP
    int SOL_XDP
    int XDP_MMAP_OFFSETS
    int XDP_STATISTICS
    int XDP_OPTIONS
    int XDP_OPTIONS_ZEROCOPY
    int XDP_COPY
    int XDP_ZEROCOPY
    int XDP_SHARED_UMEM
    int XDP_USE_NEED_WAKEUP
    int XDP_USE_SG
    int XDP_PKT_CONTD
    int XDP_RING_NEED_WAKEUP
    int SO_PREFER_BUSY_POLL
    int SO_BUSY_POLL_BUDGET


cdef extern from "<xdp/xsk.h>" nogil:
    struct xdp_desc:
        uint64_t addr
        uint32_t len
        uint32_t options

    struct xdp_statistics:
        uint64_t rx_dropped
        uint64_t rx_invalid_descs
        uint64_t tx_invalid_descs
        uint64_t rx_ring_full
        uint64_t rx_fill_ring_empty_descs
        uint64_t tx_ring_empty_descs

    struct xdp_options:
        uint32_t flags

    struct xsk_ring_prod:
        uint32_t cached_prod
        uint32_t cached_cons
        uint32_t mask
        uint32_t size
        uint32_t *producer
        uint32_t *consumer
        void *ring
        uint32_t *flags

    struct xsk_ring_cons:
        uint32_t cached_prod
        uint32_t cached_cons
        uint32_t mask
        uint32_t size
        uint32_t *producer
        uint32_t *consumer
        void *ring
        uint32_t *flags

    struct xsk_umem:
        pass

    struct xsk_socket:
        pass

    struct xsk_umem_config:
        uint32_t fill_size
        uint32_t comp_size
        uint32_t frame_size
        uint32_t frame_headroom
        uint32_t flags

    struct xsk_socket_config:
        uint32_t rx_size
        uint32_t tx_size
        uint32_t libxdp_flags
        uint32_t xdp_flags
        uint16_t bind_flags

    int XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD

    uint64_t *xsk_ring_prod__fill_addr(xsk_ring_prod *fill, uint32_t idx)
    const uint64_t *xsk_ring_cons__comp_addr(const xsk_ring_cons *comp, uint32_t idx)
    xdp_desc *xsk_ring_prod__tx_desc(xsk_ring_prod *tx, uint32_t idx)
    const xdp_desc *xsk_ring_cons__rx_desc(const xsk_ring_cons *rx, uint32_t idx)
    int xsk_ring_prod__needs_wakeup(const xsk_ring_prod *r)
    uint32_t xsk_prod_nb_free(xsk_ring_prod *r, uint32_t nb)
    uint32_t xsk_cons_nb_avail(xsk_ring_cons *r, uint32_t nb)
    uint32_t xsk_ring_prod__reserve(xsk_ring_prod *prod, uint32_t nb, uint32_t *idx)
    void xsk_ring_prod__submit(xsk_ring_prod *prod, uint32_t nb)
    uint32_t xsk_ring_cons__peek(xsk_ring_cons *cons, uint32_t nb, uint32_t *idx)
    void xsk_ring_cons__cancel(xsk_ring_cons *cons, uint32_t nb)
    void xsk_ring_cons__release(xsk_ring_cons *cons, uint32_t nb)

    int xsk_umem__create(xsk_umem **umem, void *area, uint64_t size,
                         xsk_ring_prod *fill, xsk_ring_cons *comp,
                         const xsk_umem_config *config)
    int xsk_umem__delete(xsk_umem *umem)
    int xsk_umem__fd(const xsk_umem *umem)
    int xsk_socket__create(xsk_socket **xsk, const char *ifname, uint32_t queue_id,
                           xsk_umem *umem, xsk_ring_cons *rx, xsk_ring_prod *tx,
                           const xsk_socket_config *config)
    void xsk_socket__delete(xsk_socket *xsk)
    int xsk_socket__fd(const xsk_socket *xsk)
    int xsk_socket__update_xskmap(xsk_socket *xsk, int xsks_map_fd)


cdef extern from "<xdp/libxdp.h>" nogil:
    struct xdp_program:
        pass
    struct xdp_multiprog:
        pass

    enum xdp_attach_mode:
        XDP_MODE_UNSPEC
        XDP_MODE_NATIVE
        XDP_MODE_SKB
        XDP_MODE_HW

    struct xdp_program_opts:
        size_t sz
        bpf_object *obj
        const char *prog_name

    long libxdp_get_error(const void *ptr)
    void libxdp_set_print(void *fn)

    xdp_program *xdp_program__create(xdp_program_opts *opts)
    void xdp_program__close(xdp_program *prog)
    const char *xdp_program__name(const xdp_program *prog)
    uint32_t xdp_program__id(const xdp_program *prog)
    int xdp_program__fd(const xdp_program *prog)
    unsigned int xdp_program__run_prio(const xdp_program *prog)
    int xdp_program__set_run_prio(xdp_program *prog, unsigned int run_prio)
    int xdp_program__set_chain_call_enabled(xdp_program *prog, unsigned int action, bint enabled)
    int xdp_program__set_xdp_frags_support(xdp_program *prog, bint frags)
    int xdp_program__attach(xdp_program *prog, int ifindex, xdp_attach_mode mode,
                            unsigned int flags)
    int xdp_program__detach(xdp_program *prog, int ifindex, xdp_attach_mode mode,
                            unsigned int flags)

    xdp_multiprog *xdp_multiprog__get_from_ifindex(int ifindex)
    void xdp_multiprog__close(xdp_multiprog *mp)
    xdp_program *xdp_multiprog__next_prog(const xdp_program *prog, const xdp_multiprog *mp)
    xdp_program *xdp_multiprog__main_prog(const xdp_multiprog *mp)
    xdp_attach_mode xdp_multiprog__attach_mode(const xdp_multiprog *mp)
    bint xdp_multiprog__is_legacy(const xdp_multiprog *mp)
    bint xdp_multiprog__xdp_frags_support(const xdp_multiprog *mp)
