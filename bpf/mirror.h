/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Mirror mode: a copy of each packet for the recorder, and the packet itself for the host.
 *
 * XDPCAP_MIRROR       a BPF ring buffer a queue (kernel 5.8) and bpf_xdp_load_bytes()
 *                     (5.18), which reads packets of several buffers as well
 * XDPCAP_MIRROR_PERF  a perf ring for each queue and CPU: before 5.18 nothing else copies
 *                     a length that is known at run time only
 */
#ifndef XDPCAP_MIRROR_H
#define XDPCAP_MIRROR_H

#if defined(XDPCAP_MIRROR_PERF)

#include "perf_rings.h"

#else

/* One a queue and not one a CPU: a queue's packets stay in order, whichever CPU takes them, and
 * lie in the file of their queue. The driver works a queue on one CPU at a time, so there is
 * nobody to contend with.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 64);	/* set to the device's queues before loading */
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_RINGBUF);
		__uint(max_entries, 1 << 16);
	});
} rings_map SEC(".maps");

#endif

#if defined(XDPCAP_MIRROR_PERF)

static __always_inline int put_copy(struct xdp_md *ctx, __u32 queue, void *ring,
				    const struct xdpcap_copy *head)
{
	__u32 index = queue * settings.cpus + head->cpu;

	/* The upper half of the flags is how many bytes of the packet follow the header. */
	return bpf_perf_event_output(ctx, &rings_map, (__u64)head->caplen << 32 | index,
				     (void *)head, sizeof(*head));
}

#else

static __always_inline int copy_into(struct xdp_md *ctx, void *ring, const __u32 room,
				     const struct xdpcap_copy *head)
{
	struct xdpcap_copy *copy = bpf_ringbuf_reserve(ring, sizeof(*copy) + room, 0);
	__u64 wanted = head->caplen;

	if (!copy)
		return -1;
	*copy = *head;
	/* Two comparisons, and of the very register that the helper gets: so the verifier knows
	 * its bounds. clang would make one of them, of a difference in another register; and of
	 * "not 0" the verifier learns nothing before 6.8 (reg_set_min_max() in
	 * kernel/bpf/verifier.c). No packet is empty: of one that were, no byte can be loaded.
	 */
	asm volatile("if %0 > 0 goto +1\n\t%0 = 1" : "+r"(wanted));
	if (wanted > room)
		goto discard;
	asm volatile("" : "+r"(wanted));
	if (bpf_xdp_load_bytes(ctx, 0, copy + 1, wanted))
		goto discard;
	bpf_ringbuf_submit(copy, 0);
	return 0;
discard:
	bpf_ringbuf_discard(copy, 0);
	return -1;
}

/* The verifier wants the size of a reservation to be a constant, so a copy gets the smallest
 * room of these that is large enough.
 */
static __always_inline int put_copy(struct xdp_md *ctx, __u32 queue, void *ring,
				    const struct xdpcap_copy *head)
{
#define XDPCAP_ROOM(room)                                                                  \
	if (head->caplen <= (room))                                                        \
		return copy_into(ctx, ring, room, head)

	XDPCAP_ROOM(64);
	XDPCAP_ROOM(128);
	XDPCAP_ROOM(256);
	XDPCAP_ROOM(512);
	XDPCAP_ROOM(1024);
	XDPCAP_ROOM(1536);
	XDPCAP_ROOM(2048);
	XDPCAP_ROOM(4096);
	XDPCAP_ROOM(9216);
	XDPCAP_ROOM(XDPCAP_COPY_MAX);
#undef XDPCAP_ROOM
	return -1;
}

#endif

/* Returns 0 when the copy is in the ring. */
static __always_inline int copy_packet(struct xdp_md *ctx, __u32 queue, void *ring,
				       const struct xdpcap_count *lost, __u64 ts_ns, __u32 length)
{
	struct xdpcap_copy head = {
		.caplen = bytes_to_copy(length),
		.cpu = bpf_get_smp_processor_id(),
		.lost = lost->packets,
		.meta = describe(ctx, ts_ns, length),
	};

	return put_copy(ctx, queue, ring, &head);
}

/* The ring of a queue, or for perf rings whether it has any; NULL: the queue is not recorded. */
static __always_inline void *ring_of(__u32 queue)
{
#if defined(XDPCAP_MIRROR_PERF)
	__u32 *has_rings = bpf_map_lookup_elem(&bound, &queue);

	return has_rings && *has_rings ? has_rings : NULL;
#else
	return bpf_map_lookup_elem(&rings_map, &queue);
#endif
}

#endif /* XDPCAP_MIRROR_H */
