// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Takes a PTP event message and what pads it to 256 bytes off the front of a packet: the rest is
 * a packet of its own, with room before it and the time that the NIC gave the message.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define FRONT 256

SEC("xdp")
int trim_front(struct xdp_md *ctx)
{
	__u8 *packet = (void *)(long)ctx->data;

	if (packet + FRONT + 14 > (__u8 *)(long)ctx->data_end)
		return XDP_PASS;
	if (packet[12] == 0x88 && packet[13] == 0xf7)
		bpf_xdp_adjust_head(ctx, FRONT);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
