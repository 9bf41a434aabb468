/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every program of a recording has: counters, settings, a clock, and the cut to the snapshot
 * length.
 *
 * XDPCAP_BARE, XDPCAP_LEGACY, XDPCAP_MIRROR_PERF: see record.bpf.c.
 */
#ifndef XDPCAP_RECORDING_H
#define XDPCAP_RECORDING_H

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 64);	/* set to the device's queues before loading */
	__type(key, __u32);
	__type(value, struct xdpcap_counters);
} counters SEC(".maps");

#if defined(XDPCAP_LEGACY) || defined(XDPCAP_MIRROR_PERF)
/* Whether a queue is recorded, where the map of its socket or ring does not tell. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} bound SEC(".maps");
#endif

#ifndef XDPCAP_LEGACY
const volatile struct xdpcap_settings settings SEC(XDPCAP_SETTINGS) = {
	.clock = XDPCAP_CLOCK_MONOTONIC,
};

static __always_inline __u32 bytes_to_copy(__u32 length)
{
	__u32 most = settings.snaplen && settings.snaplen < XDPCAP_COPY_MAX ? settings.snaplen
									    : XDPCAP_COPY_MAX;

	return length < most ? length : most;
}
#endif

static __always_inline __u64 now_ns(void)
{
#if defined(XDPCAP_BARE)
	return 0;
#elif defined(XDPCAP_LEGACY)
	return bpf_ktime_get_ns();
#else
	/* A kernel without the helper never sees the branch that calls it. */
	if (settings.clock == XDPCAP_CLOCK_TAI)
		return bpf_ktime_get_tai_ns();
	return bpf_ktime_get_ns();
#endif
}

static __always_inline void add(struct xdpcap_counters *count, __u32 verdict, __u32 length)
{
	count->verdict[verdict].packets++;
	count->verdict[verdict].bytes += length;
}

#endif /* XDPCAP_RECORDING_H */
