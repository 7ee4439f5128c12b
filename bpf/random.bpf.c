// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The member is drawn at random, by a generator whose seed the host sets, so that a run can be repeated. */
#include "key.h"
#include "memory.h"

static __always_inline struct decision key_of(struct sk_reuseport_md *ctx, const struct packet *packet, __u32 *key)
{
	__u64 *state = bpf_map_lookup_elem(&state_map, &only);
	__u64 next;

	(void)ctx;
	(void)packet;
	if (!state)
		return DECIDE(DROP_MISC);
	/* Marsaglia's xorshift64 */
	next = *state;
	next ^= next << 13;
	next ^= next >> 7;
	next ^= next << 17;
	*state = next;
	*key = next >> 32;
	return UNDECIDED;
}

SELECT_BY_KEY(key_of);
