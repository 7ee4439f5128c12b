/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* For two members of which the second is selected where the first cannot be. */
#ifndef REUSEPORT_IN_ORDER_H
#define REUSEPORT_IN_ORDER_H

#include "select.h"

/* Select the socket in slot @first, 0 or 1, or else the one in the other slot. */
static __always_inline struct decision select_in_order(struct sk_reuseport_md *ctx, __u32 first)
{
	struct decision decision = select_at(ctx, &only, first);

	if (decision.result != DROP_ERR_SK_SELECT_REUSEPORT)
		return decision;
	return select_at(ctx, &only, !first);
}

#endif
