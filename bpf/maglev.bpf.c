// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Consistent hashing by table: the client's hash names an entry, the entry a member. */
#include "hash.h"
#include "table.h"

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	__u32 *index;

	index = table_entry(hash_client(packet) % TABLE_SIZE);
	if (!index)
		return DECIDE(DROP_MISC);
	return select_at(ctx, &only, *index);
}

SELECT_PROGRAM(choose);
