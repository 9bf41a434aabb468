// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Copies what another XDP program on an interface gets to see, and what it decides.
 *
 * Attached to the entry or the exit of that program (fentry, fexit; kernel 5.5), which is neither
 * replaced nor changed. At the exit the packet is as the program leaves it, and its verdict is
 * known. What is copied goes into perf rings: bpf_xdp_output() (5.6) is the one helper by
 * which a tracing program copies a packet of any length and of several buffers.
 */
#include <linux/bpf.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#define XDPCAP_MIRROR_PERF
#include "xdpcap_abi.h"
#include "perf_rings.h"
#include "recording.h"

/* What is read of the kernel's own structures, found by their BTF. */
struct net_device {
	int ifindex;
} __attribute__((preserve_access_index));

struct xdp_rxq_info {
	struct net_device *dev;
	__u32 queue_index;
} __attribute__((preserve_access_index));

struct xdp_buff {
	void *data;
	void *data_end;
	struct xdp_rxq_info *rxq;
} __attribute__((preserve_access_index));

static __always_inline __u32 packet_length(struct xdp_buff *xdp)
{
	if (settings.whole_length)
		return bpf_xdp_get_buff_len((struct xdp_md *)xdp);
	return xdp->data_end - xdp->data;
}

/* Returns 0 when the copy is in the ring. */
static __always_inline int copy_packet(struct xdp_buff *xdp, __u32 queue, const __u32 *verdict,
				       __u32 lost, __u32 length)
{
	struct xdpcap_copy copy = {
		.caplen = bytes_to_copy(length),
		.cpu = bpf_get_smp_processor_id(),
		.lost = lost,
		.verdict = verdict ? *verdict : 0,
		.meta = {
			.ts_ns = now_ns(),
			.origlen = length,
			.flags = XDPCAP_META_TS | XDPCAP_META_ORIGLEN |
				 (verdict ? XDPCAP_META_VERDICT : 0),
			.magic = XDPCAP_META_MAGIC,
		},
	};

	/* The upper half of the flags is how many bytes of the packet follow. */
	return bpf_xdp_output(xdp, &rings_map,
			      (__u64)copy.caplen << 32 | (queue * settings.cpus + copy.cpu),
			      &copy, sizeof(copy));
}

/* `verdict`: what the program has decided; NULL before it has. */
static __always_inline int observe(struct xdp_buff *xdp, const __u32 *verdict)
{
	__u32 queue = xdp->rxq->queue_index, length;
	struct xdpcap_counters *count;
	__u32 *recorded;

	/* The program may be on several interfaces. */
	if (xdp->rxq->dev->ifindex != settings.device)
		return 0;
	count = bpf_map_lookup_elem(&counters, &queue);
	if (!count)
		return 0;
	length = packet_length(xdp);
	recorded = bpf_map_lookup_elem(&bound, &queue);
	if (!recorded || !*recorded)
		add(count, XDPCAP_PASSED, length);
	else if (copy_packet(xdp, queue, verdict, count->verdict[XDPCAP_RING_LOST].packets, length))
		add(count, XDPCAP_RING_LOST, length);
	else
		add(count, XDPCAP_MIRRORED, length);
	return 0;
}

SEC("fentry/xdp")
int BPF_PROG(xdpcap_entry, struct xdp_buff *xdp)
{
	return observe(xdp, NULL);
}

SEC("fexit/xdp")
int BPF_PROG(xdpcap_exit, struct xdp_buff *xdp, int verdict)
{
	__u32 decided = verdict;

	return observe(xdp, &decided);
}

/* bpf_xdp_output() is for programs under the GPL. */
char _license[] SEC("license") = "Dual BSD/GPL";
