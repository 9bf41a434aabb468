/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* In place of bpf/driver.h: a driver whose device stamps some of the lab's numbered frames, an
 * hour too early so that its times can be told from others, by a clock that runs from boot.
 */
#ifndef XDPCAP_DRIVER_H
#define XDPCAP_DRIVER_H

#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>

#define NUMBER_END 50
#define EARLY_NS (3600 * 1000000000ULL)

enum xdp_rss_hash_type {
	XDP_RSS_TYPE_NONE = 0,
};

static __always_inline int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx,
							 __u64 *timestamp)
{
	__u8 *packet = (void *)(long)ctx->data;

	if (packet + NUMBER_END > (__u8 *)(long)ctx->data_end)
		return -ENODATA;
	switch (packet[NUMBER_END - 1] % 4) {
	case 0:
		*timestamp = bpf_ktime_get_boot_ns() - EARLY_NS;
		return 0;
	case 1:	/* no time of this packet, as most drivers say it */
		return -ENODATA;
	case 2:	/* as veth says it */
		*timestamp = 0;
		return 0;
	default:	/* what veth says of a packet that an AF_XDP socket wants to know the time of */
		*timestamp = 0xffff888012345678;
		return 0;
	}
}

static __always_inline int bpf_xdp_metadata_rx_hash(const struct xdp_md *ctx, __u32 *hash,
						    enum xdp_rss_hash_type *rss_type)
{
	return -ENODATA;
}

static __always_inline int bpf_xdp_metadata_rx_vlan_tag(const struct xdp_md *ctx,
							__be16 *vlan_proto, __u16 *vlan_tci)
{
	return -ENODATA;
}

#endif /* XDPCAP_DRIVER_H */
