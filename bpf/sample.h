/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One packet in so many: what a sample leaves out. */
#ifndef XDPCAP_SAMPLE_H
#define XDPCAP_SAMPLE_H

/* What each CPU still leaves out of a queue before it takes the next packet. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 64);	/* set to the device's queues before loading */
	__type(key, __u32);
	__type(value, __u32);
} sample_left SEC(".maps");

static __always_inline int left_out(struct xdp_md *ctx, __u32 queue)
{
	__u32 *left;

	if (settings.sample <= 1)
		return 0;
	/* The flows whose hash lies in the lowest of `sample` equal parts of all hashes. */
	if (settings.sample_by == XDPCAP_SAMPLE_FLOW)
		return ((__u64)flow_hash(ctx) * settings.sample) >> 32 != 0;
	left = bpf_map_lookup_elem(&sample_left, &queue);
	if (!left)
		return 0;
	if (*left) {
		--*left;
		return 1;
	}
	*left = settings.sample - 1;
	return 0;
}

#endif /* XDPCAP_SAMPLE_H */
