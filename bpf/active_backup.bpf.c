// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A primary in slot 0 and its backup in slot 1. */
#include "in_order.h"

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	(void)packet;
	return select_in_order(ctx, 0);
}

SELECT_PROGRAM(choose);
