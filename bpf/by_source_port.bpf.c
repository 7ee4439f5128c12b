// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The member is the source port modulo the size of the group: one client's connections go to different members. */
#include "key.h"

static __always_inline struct decision key_of(struct sk_reuseport_md *ctx, const struct packet *packet, __u32 *key)
{
	(void)ctx;
	*key = bpf_ntohs(packet->seen.skb_ports[0]);
	return UNDECIDED;
}

SELECT_BY_KEY(key_of);
