/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is known of a packet beside its bytes: the device's time for it, a hash of its flow
 * and the VLAN tag that the device took off.
 *
 * A driver is asked (driver.h) in the build with XDPCAP_METADATA, for what the settings say
 * that it has.
 */
#ifndef XDPCAP_METADATA_H
#define XDPCAP_METADATA_H

#ifndef XDPCAP_LEGACY
#include "flow_hash.h"
#endif

#ifdef XDPCAP_METADATA
#include "driver.h"
#endif

/* The device's time instead of the program's, where the packet has one.  veth answers
 * with what stands in the skb for it (drivers/net/veth.c, veth_xdp_rx_timestamp()): 0 where
 * nobody stamped it, and where an AF_XDP socket sent it and wants to know when, a pointer of
 * that socket, which has the same place (include/linux/skbuff.h, struct skb_shared_info) and
 * is negative as a time.  Neither is believed.
 */
static __always_inline void find_time(struct xdp_md *ctx, struct xdpcap_meta *found)
{
#ifdef XDPCAP_METADATA
	__u64 ts_ns = 0;

	if (settings.driver_metadata & XDPCAP_DRIVER_TIMESTAMP &&
	    !bpf_xdp_metadata_rx_timestamp(ctx, &ts_ns) && (__s64)ts_ns > 0) {
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
