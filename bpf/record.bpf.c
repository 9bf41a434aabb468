// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The recording program: count, stamp, redirect.
 *
 * One source, eight objects (setup.py, VARIANTS):
 *   XDPCAP_FRAGS   packets of several buffers (xdp.frags, kernel 5.18; AF_XDP
 *                  takes them from 6.6 with XDP_USE_SG)
 *   XDPCAP_METADATA  the same, bound to one device, whose driver is asked for what it
 *                  knows of each packet (metadata.h)
 *   (neither)      kernel 5.3 and later
 *   XDPCAP_BARE    writes no metadata, user space takes the time: libxdp's dispatcher
 *                  before 1.5.5 is not marked as changing packets, and then its
 *                  members may not be either (kernel 6.13, stable 6.12;
 *                  bpf_check_attach_target()), and adjusting the metadata counts
 *   XDPCAP_MIRROR, XDPCAP_MIRROR_PERF  copy and pass instead of redirecting (mirror.h)
 *   XDPCAP_LEGACY  kernel 4.18 to 5.2: bpf_redirect_map() takes no fallback action
 *                  and there is no global data
 *
 * A queue without a socket passes its packets to the kernel stack, unchanged: no
 * metadata is put before them, because the stack's GRO does not merge packets whose
 * metadata differ (net/core/gro.c, gro_list_prepare()).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "xdpcap_abi.h"

#if !defined(XDPCAP_MIRROR) && !defined(XDPCAP_MIRROR_PERF)
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);	/* set to the device's queues before loading */
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");
#endif

#include "recording.h"
#include "metadata.h"

static __always_inline __u32 packet_length(struct xdp_md *ctx)
{
#ifdef XDPCAP_FRAGS
	return bpf_xdp_get_buff_len(ctx);
#else
	return ctx->data_end - ctx->data;
#endif
}

#ifndef XDPCAP_BARE
/* What stands before a packet, or its copy. */
static __always_inline struct xdpcap_meta describe(struct xdp_md *ctx, __u64 ts_ns, __u32 length)
{
	struct xdpcap_meta found = {
		.ts_ns = ts_ns,
		.origlen = length,
		.flags = XDPCAP_META_TS | XDPCAP_META_ORIGLEN,
		.magic = XDPCAP_META_MAGIC,
	};

	find_metadata(ctx, &found);
	return found;
}
#endif

#ifndef XDPCAP_LEGACY
#include "dead_man.h"
#include "filter.h"
#include "sample.h"
#endif

#if defined(XDPCAP_MIRROR) || defined(XDPCAP_MIRROR_PERF)

#include "mirror.h"

static __always_inline int is_recorded(__u32 queue)
{
	return ring_of(queue) != NULL;
}

static __always_inline int hand_over(struct xdp_md *ctx, struct xdpcap_counters *count,
				     __u32 queue, __u64 ts_ns, __u32 length)
{
	void *ring = ring_of(queue);

	if (!ring)
		add(count, XDPCAP_PASSED, length);
	else if (copy_packet(ctx, queue, ring, &count->verdict[XDPCAP_RING_LOST], ts_ns, length))
		add(count, XDPCAP_RING_LOST, length);
	else
		add(count, XDPCAP_MIRRORED, length);
	return XDP_PASS;
}

#else

static __always_inline int is_recorded(__u32 queue)
{
#ifdef XDPCAP_LEGACY
	__u32 *has_socket = bpf_map_lookup_elem(&bound, &queue);

	return has_socket && *has_socket;
#else
	return bpf_map_lookup_elem(&xsks_map, &queue) != NULL;
#endif
}

static __always_inline int redirect(__u32 queue)
{
#ifdef XDPCAP_LEGACY
	return is_recorded(queue) ? bpf_redirect_map(&xsks_map, queue, 0) : XDP_PASS;
#else
	return bpf_redirect_map(&xsks_map, queue, XDP_PASS);
#endif
}

/* Writes the header before the packet.  Where the driver has no room for it the
 * packet goes without, and user space takes the time itself.
 */
static __always_inline void put_meta(struct xdp_md *ctx, __u64 ts_ns, __u32 length)
{
#ifndef XDPCAP_BARE
	struct xdpcap_meta *meta, found = describe(ctx, ts_ns, length);

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta)))
		return;
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return;
	*meta = found;
#endif
}

static __always_inline int hand_over(struct xdp_md *ctx, struct xdpcap_counters *count,
				     __u32 queue, __u64 ts_ns, __u32 length)
{
	int action = redirect(queue);

	if (action == XDP_REDIRECT) {
		put_meta(ctx, ts_ns, length);
		add(count, XDPCAP_REDIRECTED, length);
	} else {
		add(count, XDPCAP_PASSED, length);
	}
	return action;
}

#endif

#ifdef XDPCAP_FRAGS
SEC("xdp.frags")
#else
SEC("xdp")
#endif
int xdpcap_record(struct xdp_md *ctx)
{
	__u32 queue = ctx->rx_queue_index;
	__u32 length = packet_length(ctx);
	struct xdpcap_counters *count = bpf_map_lookup_elem(&counters, &queue);

	if (!count)	/* a queue that the maps were not made for */
		return XDP_PASS;
#ifndef XDPCAP_LEGACY
	if (handle_let_go()) {
		add(count, XDPCAP_PASSED, length);
		return XDP_PASS;
	}
	/* Asked before anything is decided about a packet of a queue that nobody records. */
	if ((settings.filter || settings.sample > 1) && !is_recorded(queue)) {
		add(count, XDPCAP_PASSED, length);
		return XDP_PASS;
	}
	if (filtered_out(ctx)) {
		add(count, XDPCAP_FILTERED, length);
		return unmatched_action();
	}
	if (left_out(ctx, queue)) {
		add(count, XDPCAP_SAMPLED_OUT, length);
		return XDP_PASS;
	}
#endif
	return hand_over(ctx, count, queue, now_ns(), length);
}

char _license[] SEC("license") = "Dual BSD/GPL";
