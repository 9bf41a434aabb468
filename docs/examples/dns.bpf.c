// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Records DNS over UDP and IPv4, passes everything else to the kernel stack.
 *
 * It counts each packet where xdpcap looks for it, and puts a header with time and length
 * before those that it redirects; docs/custom-programs.md goes through it.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <xdpcap_abi.h>

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);		/* xdpcap makes room for every queue */
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct xdpcap_counters);
} counters SEC(".maps");

/* Tells xdpcap by which clock put_meta() stamps. */
const volatile struct xdpcap_settings settings SEC(XDPCAP_SETTINGS) = {
	.clock = XDPCAP_CLOCK_MONOTONIC,
};

static __always_inline int is_dns(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return 0;
	if (ip->ihl < 5 || ip->protocol != IPPROTO_UDP || ip->frag_off & bpf_htons(0x1fff))
		return 0;
	udp = (void *)ip + ip->ihl * 4;
	if ((void *)(udp + 1) > end)
		return 0;
	return udp->source == bpf_htons(53) || udp->dest == bpf_htons(53);
}

static __always_inline void put_meta(struct xdp_md *ctx, __u64 ts_ns, __u32 length)
{
	struct xdpcap_meta *meta;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta)))
		return;		/* no room: xdpcap takes the time itself */
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return;
	*meta = (struct xdpcap_meta){
		.ts_ns = ts_ns,
		.origlen = length,
		.flags = XDPCAP_META_TS | XDPCAP_META_ORIGLEN,
		.magic = XDPCAP_META_MAGIC,
	};
}

static __always_inline int counted(struct xdpcap_counters *count, enum xdpcap_verdict verdict,
				   __u32 length, int action)
{
	count->verdict[verdict].packets++;
	count->verdict[verdict].bytes += length;
	return action;
}

SEC("xdp")
int dns_record(struct xdp_md *ctx)
{
	__u64 ts_ns = bpf_ktime_get_ns();
	__u32 queue = ctx->rx_queue_index;
	__u32 length = ctx->data_end - ctx->data;
	struct xdpcap_counters *count = bpf_map_lookup_elem(&counters, &queue);

	if (!count)
		return XDP_PASS;
	if (!is_dns(ctx))
		return counted(count, XDPCAP_FILTERED, length, XDP_PASS);
	/* A queue that nobody records has no socket in the map, and XDP_PASS is the answer. */
	if (bpf_redirect_map(&xsks_map, queue, XDP_PASS) != XDP_REDIRECT)
		return counted(count, XDPCAP_PASSED, length, XDP_PASS);
	put_meta(ctx, ts_ns, length);
	return counted(count, XDPCAP_REDIRECTED, length, XDP_REDIRECT);
}

char _license[] SEC("license") = "Dual BSD/GPL";
