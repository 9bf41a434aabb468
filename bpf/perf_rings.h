/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The perf rings into which packets are copied: a descriptor for each queue and CPU, or each CPU. */
#ifndef XDPCAP_PERF_RINGS_H
#define XDPCAP_PERF_RINGS_H

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(max_entries, 64);	/* set to the number of rings before loading */
	__type(key, __u32);
	__type(value, __u32);
} rings_map SEC(".maps");

#endif /* XDPCAP_PERF_RINGS_H */
