// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Two members, the second where the first cannot be had. FIRST(packet) says which is first: always 0 for a primary
 * with its backup, the client's port for two that share the work.
 */
#include "select.h"

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	__u32 first = FIRST(packet);
	struct decision decision;

	if (packet->fin)
		return UNDECIDED;
	decision = select_at(ctx, &only, first);
	if (decision.result != DROP_ERR_SK_SELECT_REUSEPORT)
		return decision;
	return select_at(ctx, &only, !first);
}

SELECT_PROGRAM(choose);
