// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Select what the payload names and drop the packet all the same. */
#include "select.h"

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	struct decision decision;
	struct cmd cmd;

	decision = read_cmd(ctx, packet, &cmd);
	if (is_decided(decision))
		return decision;
	select_at(ctx, &only, cmd.reuseport_index);
	return DECIDE(DROP_MISC);
}

SELECT_PROGRAM(choose);
