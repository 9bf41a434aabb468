/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A hash of the packet's flow, the same for both directions.
 *
 * Toeplitz, as NICs use it for RSS, over addresses and ports, with the input folded by
 * Linux's RXH_XFRM_SYM_XOR (include/uapi/linux/ethtool.h):
 *
 *	source ^ destination address, the same again, source ^ destination port, the same again
 *
 * so anybody can work it out from the packet and the key (flow_hash_tables.h).  The
 * published symmetric key, 6d5a over and over, needs no fold but makes the two halves of
 * the hash equal: 16 bits would be left of 32.
 *
 * Up to two VLAN tags are stepped over, and up to four extension headers of IPv6.  TCP, UDP,
 * UDP-Lite, SCTP and DCCP have ports; any other protocol, and every fragment, the first one
 * too, is hashed by its addresses alone, so that all fragments of a packet have one hash.
 *
 * Needs global data (kernel 5.2).  Looks at the packet's first buffer only.
 */
#ifndef XDPCAP_FLOW_HASH_H
#define XDPCAP_FLOW_HASH_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include "flow_hash_tables.h"

#define FLOW_HASH_TAGS 2
#define FLOW_HASH_EXTENSIONS 4
#define FLOW_HASH_FRAGMENT 0x3fff	/* more fragments, or an offset (net/ip.h) */

struct flow_hash_tag {
	__be16 tci;
	__be16 next;
};

/* The first two bytes of every extension header that is stepped over. */
struct flow_hash_extension {
	__u8 next;
	__u8 length;		/* in units of 8 bytes, without the first */
};

/* What the top `bits` of a word in host byte order add. */
static __always_inline __u32 flow_hash_word(const __u32 (*table)[16], __u32 word, int bits)
{
	__u32 hash = 0;

#pragma unroll
	for (int nibble = 0; nibble < bits / 4; nibble++)
		hash ^= table[nibble][(word >> (28 - 4 * nibble)) & 15];
	return hash;
}

static __always_inline int flow_hash_has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE ||
	       protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP;
}

/* The ports folded, in the upper half; 0 where the packet ends before them. */
static __always_inline __u32 flow_hash_ports(const void *at, const void *end)
{
	const __be16 *ports = at;

	if ((void *)(ports + 2) > end)
		return 0;
	return (__u32)bpf_ntohs(ports[0] ^ ports[1]) << 16;
}

static __always_inline __u32 flow_hash_v4(const void *at, const void *end)
{
	const struct iphdr *ip = at;
	__u32 hash;

	if ((void *)(ip + 1) > end)
		return 0;
	hash = flow_hash_word(flow_hash_v4_addresses, bpf_ntohl(ip->saddr ^ ip->daddr), 32);
	if (flow_hash_has_ports(ip->protocol) && !(ip->frag_off & bpf_htons(FLOW_HASH_FRAGMENT)))
		hash ^= flow_hash_word(flow_hash_v4_ports, flow_hash_ports(at + ip->ihl * 4, end), 16);
	return hash;
}

static __always_inline __u32 flow_hash_v6(const void *at, const void *end)
{
	const struct ipv6hdr *ip = at;
	__u8 protocol;
	__u32 hash = 0;

	if ((void *)(ip + 1) > end)
		return 0;
#pragma unroll
	for (int word = 0; word < 4; word++)
		hash ^= flow_hash_word(flow_hash_v6_addresses + 8 * word,
				       bpf_ntohl(ip->saddr.in6_u.u6_addr32[word] ^
						 ip->daddr.in6_u.u6_addr32[word]), 32);
	protocol = ip->nexthdr;
	at = ip + 1;
#pragma unroll
	for (int header = 0; header < FLOW_HASH_EXTENSIONS; header++) {
		const struct flow_hash_extension *extension = at;

		if (protocol != IPPROTO_HOPOPTS && protocol != IPPROTO_ROUTING &&
		    protocol != IPPROTO_DSTOPTS)
			break;
		if ((void *)(extension + 1) > end)
			return hash;
		protocol = extension->next;
		at += (extension->length + 1) * 8;
	}
	if (flow_hash_has_ports(protocol))
		hash ^= flow_hash_word(flow_hash_v6_ports, flow_hash_ports(at, end), 16);
	return hash;
}

/* The flow's hash; 0 for a packet that is not IP.  A flow whose hash is 0, one in four
 * thousand million, and one between an address and port and themselves look the same.
 */
static __always_inline __u32 flow_hash(struct xdp_md *ctx)
{
	const void *at = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct ethhdr *eth = at;
	__be16 protocol;

	if ((void *)(eth + 1) > end)
		return 0;
	protocol = eth->h_proto;
	at = eth + 1;
#pragma unroll
	for (int number = 0; number < FLOW_HASH_TAGS; number++) {
		const struct flow_hash_tag *tag = at;

		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return 0;
		protocol = tag->next;
		at = tag + 1;
	}
	if (protocol == bpf_htons(ETH_P_IP))
		return flow_hash_v4(at, end);
	if (protocol == bpf_htons(ETH_P_IPV6))
		return flow_hash_v6(at, end);
	return 0;
}

#endif /* XDPCAP_FLOW_HASH_H */
