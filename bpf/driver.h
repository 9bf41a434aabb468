/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a driver knows of a packet: kfuncs (net/core/xdp.c, from Linux 6.3, the VLAN tag from
 * 6.8), which only a program that is bound to its device may call.  They are weak, and called
 * where the settings say that the driver has them, so the program loads on a kernel that
 * lacks some.
 */
#ifndef XDPCAP_DRIVER_H
#define XDPCAP_DRIVER_H

/* Compared by kind, not by name or values (libbpf, bpf_core_types_are_compat()). */
enum xdp_rss_hash_type {
	XDP_RSS_TYPE_NONE = 0,
};

extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *timestamp) __ksym __weak;
extern int bpf_xdp_metadata_rx_hash(const struct xdp_md *ctx, __u32 *hash,
				    enum xdp_rss_hash_type *rss_type) __ksym __weak;
extern int bpf_xdp_metadata_rx_vlan_tag(const struct xdp_md *ctx, __be16 *vlan_proto,
					__u16 *vlan_tci) __ksym __weak;

#endif /* XDPCAP_DRIVER_H */
