// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Records packets of up to 128 bytes: the least that --bpf needs, without a header of xdpcap's. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

SEC("xdp")
int short_record(struct xdp_md *ctx)
{
	if (ctx->data_end - ctx->data > 128)
		return XDP_PASS;
	return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
}

char _license[] SEC("license") = "Dual BSD/GPL";
