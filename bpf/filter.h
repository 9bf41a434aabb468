/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The place of the filter: which packets are recorded at all.
 *
 * The function below stands for it and matches every packet. User space replaces it in the
 * object file by a translation of what libpcap compiled (xdpcap/packets/filter/splice.py), and sets
 * settings.filter; without that it is dead code, which the verifier drops.
 */
#ifndef XDPCAP_FILTER_H
#define XDPCAP_FILTER_H

/* The compiler must neither inline the function nor believe to know what it returns. The last
 * function of .text, so that it can grow: whatever else is not inlined stands before.
 */
static __noinline __u32 xdpcap_matches(struct xdp_md *ctx)
{
	__u32 verdict;

	asm volatile("%0 = 1" : "=r"(verdict) : "r"(ctx));
	return verdict;
}

static __always_inline int filtered_out(struct xdp_md *ctx)
{
	return settings.filter != XDPCAP_FILTER_NONE && !xdpcap_matches(ctx);
}

static __always_inline int unmatched_action(void)
{
	return settings.filter == XDPCAP_FILTER_DROP ? XDP_DROP : XDP_PASS;
}

#endif /* XDPCAP_FILTER_H */
