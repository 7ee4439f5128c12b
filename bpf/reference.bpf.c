// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The reference behaviour: the payload names the member, by its index in the one inner map. */
#include "select.h"

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	struct decision decision;
	void *found;
	struct cmd cmd;

	decision = read_cmd(ctx, packet, &cmd);
	if (is_decided(decision))
		return decision;
	found = find_inner_map(&only);
	if (!found)
		return DECIDE(DROP_ERR_INNER_MAP);
	decision = override_index(&cmd.reuseport_index);
	if (is_decided(decision))
		return decision;
	return select_from(ctx, found, &cmd.reuseport_index, cmd.pass_on_failure);
}

SELECT_PROGRAM(choose);
