/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the XDP program and user space share: map names, the metadata header
 * that stands just before each redirected packet, and the counters.
 *
 * The RX descriptor of AF_XDP carries no metadata length, so the layout is fixed.
 * bpf_xdp_adjust_meta() wants a multiple of 4 and, before kernel 6.4, at most 32
 * bytes (net/core/filter.c, xdp_metalen_invalid()).
 */
#ifndef XDPCAP_ABI_H
#define XDPCAP_ABI_H

#include <linux/types.h>

#define XDPCAP_XSKS_MAP "xsks_map"		/* XSKMAP, key: RX queue */
#define XDPCAP_COUNTERS_MAP "counters"		/* per-CPU array, key: RX queue */
#define XDPCAP_BOUND_MAP "bound"		/* array, key: RX queue; where it can't be told otherwise */
#define XDPCAP_RINGS_MAP "rings_map"		/* ring buffers, key: RX queue; mirror mode */
#define XDPCAP_ALIVE_MAP "alive"		/* array of one, when the recorder renewed */
#define XDPCAP_SETTINGS ".rodata.settings"	/* one struct xdpcap_settings */
#define XDPCAP_PROGRAM "xdpcap_record"

/* Marks a header as written for this very packet. Copy mode reuses UMEM frames
 * without clearing them, so the reader wipes the mark after it has used the header.
 */
#define XDPCAP_META_MAGIC 0x78647063u

#define XDPCAP_META_TS (1u << 0)		/* ts_ns is set */
#define XDPCAP_META_ORIGLEN (1u << 1)		/* origlen is set */
#define XDPCAP_META_HASH (1u << 2)		/* hash is set */
#define XDPCAP_META_VLAN (1u << 3)		/* vlan_tci and vlan_proto are set */
#define XDPCAP_META_DEVICE_TS (1u << 4)		/* ts_ns is in the device's clock */
#define XDPCAP_META_VERDICT (1u << 5)		/* of a copy: its verdict is set */

struct xdpcap_meta {
	__u64 ts_ns;		/* in the program's clock, see enum xdpcap_clock */
	__u32 origlen;		/* length on the wire without FCS, bytes */
	__u32 hash;		/* of the flow: the NIC's for RSS, or the program's */
	__u16 vlan_tci;		/* host byte order */
	__u16 vlan_proto;	/* host byte order */
	__u32 reserved;
	__u32 flags;		/* XDPCAP_META_* */
	__u32 magic;		/* XDPCAP_META_MAGIC */
};

/* The longest packet that mirror mode copies whole: that of an MTU of 65535, where a perf
 * sample, whose length has 16 bits, does not allow it: include/uapi/linux/perf_event.h.
 */
#ifdef XDPCAP_MIRROR_PERF
#define XDPCAP_COPY_MAX 65000
#else
#define XDPCAP_COPY_MAX 65552
#endif

/* What stands before a packet in a ring of mirror mode; its bytes follow. */
struct xdpcap_copy {
	__u32 caplen;		/* bytes of the packet that follow */
	__u32 cpu;		/* that copied it */
	__u32 lost;		/* packets of this queue that this CPU had no room for, modulo 2^32 */
	__u32 verdict;		/* enum xdp_action: what an observed program made of the packet */
	struct xdpcap_meta meta;
};

enum xdpcap_clock {
	XDPCAP_CLOCK_MONOTONIC = 0,	/* bpf_ktime_get_ns() */
	XDPCAP_CLOCK_TAI = 1,		/* bpf_ktime_get_tai_ns(), kernel 6.1 */
};

/* What user space decides before it loads the program. The verifier knows the values
 * then, and drops every branch that they rule out.
 */
struct xdpcap_settings {
	__u32 clock;		/* enum xdpcap_clock */
	__u32 flow_hash;	/* 1: the program hashes each packet (flow_hash.h) */
	__u32 driver_metadata;	/* XDPCAP_DRIVER_*, what to ask the driver for */
	__u32 snaplen;		/* bytes that mirror mode copies of a packet; 0: all that it can */
	__u32 cpus;		/* perf rings of a queue */
	__u32 sample;		/* one packet in so many is recorded; 0 or 1: every one */
	__u32 sample_by;	/* enum xdpcap_sample_by */
	__u32 dead_man_ms;	/* all is passed when `alive` is older; 0: it is not looked at */
	__u32 filter;		/* enum xdpcap_filter */
	__u32 device;		/* index of the interface whose packets are observed */
	__u32 whole_length;	/* 1: bpf_xdp_get_buff_len() is there (5.18) */
};

/* Whether there is a filter, and what becomes of packets that it does not match. */
enum xdpcap_filter {
	XDPCAP_FILTER_NONE = 0,
	XDPCAP_FILTER_PASS = 1,		/* the kernel stack takes them */
	XDPCAP_FILTER_DROP = 2,
};

enum xdpcap_sample_by {
	XDPCAP_SAMPLE_COUNT = 0,	/* each n-th packet of a queue */
	XDPCAP_SAMPLE_FLOW = 1,		/* every packet of one flow in n */
};

/* As the netdev family numbers them (linux/netdev.h, enum netdev_xdp_rx_metadata). */
#define XDPCAP_DRIVER_TIMESTAMP (1u << 0)
#define XDPCAP_DRIVER_HASH (1u << 1)		/* in place of the program's own */
#define XDPCAP_DRIVER_VLAN (1u << 2)		/* a tag that the device took off */

/* What became of a packet, as the program decided it. */
enum xdpcap_verdict {
	XDPCAP_REDIRECTED = 0,	/* handed to its queue's socket */
	XDPCAP_PASSED = 1,	/* its queue has no socket, or the recorder hangs (dead_man.h) */
	XDPCAP_DROPPED = 2,
	XDPCAP_FILTERED = 3,	/* the filter does not match */
	XDPCAP_SAMPLED_OUT = 4,	/* left out of a sample */
	XDPCAP_MIRRORED = 5,	/* a copy is in the queue's ring; the packet went on */
	XDPCAP_RING_LOST = 6,	/* the ring had no room for a copy; the packet went on */
	XDPCAP_VERDICTS = 7,
};

struct xdpcap_count {
	__u64 packets;
	__u64 bytes;
};

struct xdpcap_counters {
	struct xdpcap_count verdict[XDPCAP_VERDICTS];
};

#endif /* XDPCAP_ABI_H */
