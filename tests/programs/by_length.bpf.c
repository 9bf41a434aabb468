// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Somebody else's XDP program: aborts, drops or passes a packet, by its length modulo three. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int by_length(struct xdp_md *ctx)
{
	return (ctx->data_end - ctx->data) % 3;
}

char _license[] SEC("license") = "GPL";
