// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Looking at packets by a program that the NIC runs itself: it copies each one and passes it.
 *
 * It uses what devices take. kernel/bpf/offload.c allows arrays and hashes, which drivers want
 * without flags (so no global data), and perf event arrays, which stay with the host. The one driver
 * that runs programs, nfp, knows neither time, CPU nor queue (drivers/net/ethernet/netronome/nfp/
 * bpf/verifier.c and jit.c): the kernel stamps the copies as they come to the host, and
 * they go into the ring of the CPU that takes them. Values in maps change by atomic addition only.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define XDPCAP_MIRROR_PERF
#include "xdpcap_abi.h"
#include "perf_rings.h"

/* Packets that were copied, whether or not the copies then found room. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct xdpcap_count);
} copied SEC(".maps");

/* Bytes copied of a packet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} snaplen SEC(".maps");

SEC("xdp")
int xdpcap_look(struct xdp_md *ctx)
{
	__u32 only = 0, length = ctx->data_end - ctx->data;
	struct xdpcap_count *count = bpf_map_lookup_elem(&copied, &only);
	__u32 *most = bpf_map_lookup_elem(&snaplen, &only);
	struct xdpcap_copy copy = {};

	if (!count || !most)
		return XDP_PASS;
	__sync_fetch_and_add(&count->packets, 1);
	__sync_fetch_and_add(&count->bytes, length);
	copy.caplen = length < *most ? length : *most;
	copy.meta.origlen = length;
	copy.meta.flags = XDPCAP_META_ORIGLEN;
	copy.meta.magic = XDPCAP_META_MAGIC;
	/* The upper half of the flags is how many bytes of the packet follow. */
	bpf_perf_event_output(ctx, &rings_map, (__u64)copy.caplen << 32 | BPF_F_CURRENT_CPU, &copy,
			      sizeof(copy));
	return XDP_PASS;
}

/* bpf_perf_event_output() is for programs under the GPL. */
char _license[] SEC("license") = "Dual BSD/GPL";
