"""Declarations of bpf/xdpcap_abi.h, what an XDP program and user space share; nothing else."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t


cdef extern from "xdpcap_abi.h" nogil:
    const char *XDPCAP_XSKS_MAP
    const char *XDPCAP_COUNTERS_MAP
    const char *XDPCAP_ALIVE_MAP
    const char *XDPCAP_SETTINGS

    enum:
        XDPCAP_META_MAGIC
        XDPCAP_META_TS
        XDPCAP_META_ORIGLEN
        XDPCAP_META_HASH
        XDPCAP_META_VLAN
        XDPCAP_META_DEVICE_TS
        XDPCAP_META_VERDICT

        XDPCAP_CLOCK_MONOTONIC
        XDPCAP_CLOCK_TAI

        XDPCAP_FILTER_NONE
        XDPCAP_FILTER_PASS
        XDPCAP_FILTER_DROP

        XDPCAP_SAMPLE_COUNT
        XDPCAP_SAMPLE_FLOW

        XDPCAP_VERDICTS

    struct xdpcap_meta:
        uint64_t ts_ns
        uint32_t origlen
        uint32_t hash
        uint16_t vlan_tci
        uint16_t vlan_proto
        uint32_t flags
        uint32_t magic

    struct xdpcap_copy:
        uint32_t caplen
        uint32_t cpu
        uint32_t lost
        uint32_t verdict
        xdpcap_meta meta

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
        uint32_t device
        uint32_t whole_length

    struct xdpcap_count:
        uint64_t packets
        uint64_t bytes

    struct xdpcap_counters:
        pass
