// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The member is a hash of the source address: one client, one socket, whatever the port. */
#include "hash.h"
#include "key.h"

static __always_inline struct decision key_of(struct sk_reuseport_md *ctx, const struct packet *packet, __u32 *key)
{
	(void)ctx;
	*key = hash_address(packet);
	return UNDECIDED;
}

SELECT_BY_KEY(key_of);
