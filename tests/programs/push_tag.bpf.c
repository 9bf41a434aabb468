// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* For a sender's egress: a VLAN tag that lies beside the packet, as a VLAN device leaves it to
 * a NIC that inserts tags (skb_vlan_push() in net/core/skbuff.c).
 *
 * PROTO and TCI are the tag's; with ODD only packets whose last byte is odd get it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int push_tag(struct __sk_buff *skb)
{
#ifdef ODD
	__u8 last = 0;

	bpf_skb_load_bytes(skb, skb->len - 1, &last, 1);
	if (!(last & 1))
		return 0;	/* TC_ACT_OK */
#endif
	bpf_skb_vlan_push(skb, bpf_htons(PROTO), TCI);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
