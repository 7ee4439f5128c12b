// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The member is the kernel's own hash of the four-tuple, modulo instead of scaled. */
#include "key.h"

static __always_inline struct decision key_of(struct sk_reuseport_md *ctx, const struct packet *packet, __u32 *key)
{
	(void)packet;
	*key = ctx->hash;
	return UNDECIDED;
}

SELECT_BY_KEY(key_of);
