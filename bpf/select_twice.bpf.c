// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Ask twice: for the command's index, then for the number behind it, whatever the first answer was. */
#include "select.h"

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	struct decision decision, first, second;
	struct cmd cmd;

	decision = read_cmd(ctx, packet, &cmd);
	if (is_decided(decision))
		return decision;
	first = select_at(ctx, &only, cmd.reuseport_index);
	second = select_at(ctx, &only, cmd.pass_on_failure);
	if (first.result != PASS && second.result != PASS)
		return DECIDE(PASS_ERR_SK_SELECT_REUSEPORT);
	return DECIDE(PASS);
}

SELECT_PROGRAM(choose);
