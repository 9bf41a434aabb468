// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The lab's traffic source, run with BPF_PROG_TEST_RUN and live frames (kernel 5.18):
 * numbers each frame and sends it out of an interface without an skb.
 *
 * The kernel refills a recycled frame from the template only when the program changed
 * its bounds (net/bpf/test_run.c, xdp_test_run_setup()), so the number is written anew
 * every time.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

/* Where the 64-bit big-endian number stands in the frame; fixed before loading. */
const volatile __u32 number_offset = 42;
const volatile __u32 target_ifindex = 0;

__u64 next_number = 0;

SEC("xdp")
int xdpcap_generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u64 *number;
	__u32 offset = number_offset;

	if (offset <= 256) {
		number = data + offset;
		if ((void *)(number + 1) <= end)
			*number = bpf_cpu_to_be64(next_number);
	}
	next_number++;
	return bpf_redirect(target_ifindex, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
