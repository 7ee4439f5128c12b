// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The member is the CPU that received the packet: with one thread per CPU no cache line moves. */
#include "key.h"

static __always_inline struct decision key_of(struct sk_reuseport_md *ctx, const struct packet *packet, __u32 *key)
{
	(void)ctx;
	(void)packet;
	*key = bpf_get_smp_processor_id();
	return UNDECIDED;
}

SELECT_BY_KEY(key_of);
