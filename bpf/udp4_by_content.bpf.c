// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * UDP over IPv4 by its content, everything else left to the hash. The key is the payload's first four bytes, as a
 * request's session number would be.
 */
#include "hash.h"
#include "key.h"

static __always_inline struct decision key_of(struct sk_reuseport_md *ctx, const struct packet *packet, __u32 *key)
{
	__u32 session;

	if (packet->seen.eth_protocol != bpf_htons(ETH_P_IP) || packet->seen.ip_protocol != IPPROTO_UDP)
		return DECIDE(PASS);
	if (packet->payload + sizeof(session) > packet->seen.len)
		return DECIDE(DROP_ERR_SKB_DATA);
	if (bpf_skb_load_bytes(ctx, sizeof(struct udphdr), &session, sizeof(session)))
		return DECIDE(DROP_MISC);
	*key = fmix32(session);
	return UNDECIDED;
}

SELECT_BY_KEY(key_of);
