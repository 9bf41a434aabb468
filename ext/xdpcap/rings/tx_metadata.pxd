from libc.stdint cimport uint16_t, uint64_t


cdef extern from *:
    """
    #include <assert.h>
    #include <stddef.h>
    #include <stdint.h>
    #include <linux/if_xdp.h>

    /* struct xsk_tx_metadata and its flags as of 6.15 (include/uapi/linux/if_xdp.h), under a
     * name of our own: an older header lacks the struct, or its launch_time. */
    struct xdpcap_tx_metadata {
        uint64_t flags;
        union {
            struct {
                uint16_t csum_start;
                uint16_t csum_offset;
                uint64_t launch_time;   /* ns, by the device's PTP hardware clock */
            } request;
            struct {
                uint64_t tx_timestamp;
            } completion;
        };
    };
    #define XDPCAP_TXMD_LAUNCH_TIME (1 << 2)
    static_assert(sizeof(struct xdpcap_tx_metadata) == 24, "of the kernel's size");
    static_assert(offsetof(struct xdpcap_tx_metadata, request.launch_time) == 16, "and layout");
    #ifdef XDP_TXMD_FLAGS_LAUNCH_TIME
    static_assert(sizeof(struct xdpcap_tx_metadata) == sizeof(struct xsk_tx_metadata), "");
    static_assert(offsetof(struct xdpcap_tx_metadata, request.launch_time) ==
                  offsetof(struct xsk_tx_metadata, request.launch_time), "");
    static_assert(XDPCAP_TXMD_LAUNCH_TIME == XDP_TXMD_FLAGS_LAUNCH_TIME, "");
    #endif
    #ifndef XDP_TX_METADATA
    #define XDP_TX_METADATA (1 << 1)    /* 6.8: xdp_desc.options */
    #endif
    """
    struct TxMetadataRequest "xdpcap_tx_metadata":
        uint64_t flags
        uint16_t csum_start "request.csum_start"
        uint16_t csum_offset "request.csum_offset"
        uint64_t launch_time "request.launch_time"
    int TXMD_LAUNCH_TIME "XDPCAP_TXMD_LAUNCH_TIME"
    int XDP_TX_METADATA


# Both take the address of a frame's packet; its metadata end there.

cdef inline void ask_launch(unsigned char *packet, uint64_t launch_ns) noexcept nogil:
    """Ask the device to send the packet at a time of its own clock."""
    cdef TxMetadataRequest *request = <TxMetadataRequest *>packet - 1
    request.flags = TXMD_LAUNCH_TIME
    request.csum_start = 0
    request.csum_offset = 0
    request.launch_time = launch_ns


cdef inline void ask_nothing(unsigned char *packet) noexcept nogil:
    """For the further frames of a packet: drivers read them there, too."""
    (<TxMetadataRequest *>packet - 1).flags = 0
