/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one hash that programs use for keys of their own; harness/model/consistent_hashing.py computes the same. */
#ifndef REUSEPORT_HASH_H
#define REUSEPORT_HASH_H

#include "select.h"

/* MurmurHash3's finalizer: every bit of the word changes every bit of the result. */
static __always_inline __u32 fmix32(__u32 word)
{
	word ^= word >> 16;
	word *= 0x85ebca6b;
	word ^= word >> 13;
	word *= 0xc2b2ae35;
	return word ^ word >> 16;
}

static __always_inline __u32 hash_address(const struct packet *packet)
{
	__u32 hash = fmix32(packet->seen.skb_addrs[0]);

	if (packet->seen.eth_protocol == bpf_htons(ETH_P_IP))
		return hash;
	hash = fmix32(hash ^ packet->seen.skb_addrs[1]);
	hash = fmix32(hash ^ packet->seen.skb_addrs[2]);
	return fmix32(hash ^ packet->seen.skb_addrs[3]);
}

/* The client: its address and port. */
static __always_inline __u32 hash_client(const struct packet *packet)
{
	return fmix32(hash_address(packet) ^ bpf_ntohs(packet->seen.skb_ports[0]));
}

#endif
