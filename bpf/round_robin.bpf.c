// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The members take turns. Two CPUs at once may give one member two turns: an atomic addition returns the old value only
 * from instruction set v3 on.
 */
#include "key.h"
#include "memory.h"

static __always_inline struct decision key_of(struct sk_reuseport_md *ctx, const struct packet *packet, __u32 *key)
{
	__u64 *turn = bpf_map_lookup_elem(&state_map, &only);

	(void)ctx;
	(void)packet;
	if (!turn)
		return DECIDE(DROP_MISC);
	*key = *turn;
	__sync_fetch_and_add(turn, 1);
	return UNDECIDED;
}

SELECT_BY_KEY(key_of);
