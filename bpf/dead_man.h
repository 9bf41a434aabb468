/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The dead man's handle: a recorder that hangs must not hold a host's traffic.
 *
 * The program can't take itself off an interface, but it can leave every packet alone:
 * from the moment when the recorder has not renewed its word for too long, until it does.
 */
#ifndef XDPCAP_DEAD_MAN_H
#define XDPCAP_DEAD_MAN_H

/* When the recorder last said that it lives: CLOCK_MONOTONIC in ns, which
 * bpf_ktime_get_ns() reads as well.  Mapped by the recorder (kernel 5.5), so that to renew
 * takes no system call and no privilege; not made at all where nobody asks for it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} alive SEC(".maps");

static __always_inline int handle_let_go(void)
{
	__u32 only = 0;
	__u64 *renewed_ns;

	if (!settings.dead_man_ms)
		return 0;
	renewed_ns = bpf_map_lookup_elem(&alive, &only);
	if (!renewed_ns)
		return 0;
	/* Signed: it may be renewed between the two readings. */
	return (__s64)(bpf_ktime_get_ns() - *(volatile __u64 *)renewed_ns) >
	       (__s64)settings.dead_man_ms * 1000000;
}

#endif /* XDPCAP_DEAD_MAN_H */
