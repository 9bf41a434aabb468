/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is known of a packet beside its bytes: the device's time for it, a hash of its flow
 * and the VLAN tag that the device took off.
 *
 * A driver's metadata is asked for by kfuncs (net/core/xdp.c, from Linux 6.3, the VLAN tag
 * from 6.8), which only a program that is bound to its device may call: the build with
 * XDPCAP_METADATA.  They are weak, and called where the settings say that the driver has
 * them, so the program loads on a kernel that lacks some.
 */
#ifndef XDPCAP_METADATA_H
#define XDPCAP_METADATA_H

#ifndef XDPCAP_LEGACY
#include "flow_hash.h"
#endif

#ifdef XDPCAP_METADATA
/* Compared by kind, not by name or values (libbpf, bpf_core_types_are_compat()). */
enum xdp_rss_hash_type {
	XDP_RSS_TYPE_NONE = 0,
};

extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *timestamp) __ksym __weak;
extern int bpf_xdp_metadata_rx_hash(const struct xdp_md *ctx, __u32 *hash,
				    enum xdp_rss_hash_type *rss_type) __ksym __weak;
extern int bpf_xdp_metadata_rx_vlan_tag(const struct xdp_md *ctx, __be16 *vlan_proto,
					__u16 *vlan_tci) __ksym __weak;
#endif

/* The device's time instead of the program's, where the packet has one.  veth answers
 * with 0 for a packet that has none (drivers/net/veth.c, veth_xdp_rx_timestamp()).
 */
static __always_inline void find_time(struct xdp_md *ctx, struct xdpcap_meta *found)
{
#ifdef XDPCAP_METADATA
	__u64 ts_ns = 0;

	if (settings.driver_metadata & XDPCAP_DRIVER_TIMESTAMP &&
	    !bpf_xdp_metadata_rx_timestamp(ctx, &ts_ns) && ts_ns) {
		found->ts_ns = ts_ns;
		found->flags |= XDPCAP_META_DEVICE_TS;
	}
#endif
}

/* The driver's hash, or else the program's; one interface has one kind. */
static __always_inline void find_hash(struct xdp_md *ctx, struct xdpcap_meta *found)
{
#ifdef XDPCAP_METADATA
	enum xdp_rss_hash_type kind = XDP_RSS_TYPE_NONE;
	__u32 hash = 0;

	if (settings.driver_metadata & XDPCAP_DRIVER_HASH) {
		/* A NIC that hashed nothing says 0 and no kind (mlx5 and ice for ARP). */
		if (!bpf_xdp_metadata_rx_hash(ctx, &hash, &kind) && (hash || kind)) {
			found->hash = hash;
			found->flags |= XDPCAP_META_HASH;
		}
		return;
	}
#endif
#ifndef XDPCAP_LEGACY
	if (settings.flow_hash) {
		found->hash = flow_hash(ctx);
		if (found->hash)
			found->flags |= XDPCAP_META_HASH;
	}
#endif
}

static __always_inline void find_tag(struct xdp_md *ctx, struct xdpcap_meta *found)
{
#ifdef XDPCAP_METADATA
	__be16 proto = 0;
	__u16 tci = 0;

	if (settings.driver_metadata & XDPCAP_DRIVER_VLAN &&
	    !bpf_xdp_metadata_rx_vlan_tag(ctx, &proto, &tci)) {
		found->vlan_proto = bpf_ntohs(proto);
		found->vlan_tci = tci;
		found->flags |= XDPCAP_META_VLAN;
	}
#endif
}

/* All that the settings ask for, into a header that is not before the packet yet. */
static __always_inline void find_metadata(struct xdp_md *ctx, struct xdpcap_meta *found)
{
	find_time(ctx, found);
	find_hash(ctx, found);
	find_tag(ctx, found);
}

#endif /* XDPCAP_METADATA_H */
