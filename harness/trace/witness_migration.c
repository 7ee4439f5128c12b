// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Probes of the witness: a listener closes, and another of its group takes over its connections. */

int on_migrate(struct pt_regs *ctx)
{
	u64 sk = PT_REGS_PARM1(ctx), migrating = PT_REGS_PARM2(ctx);
	struct state *s = current_state();
	struct event *event;

	if (!s || !traced_socket(sk))
		return 0;
	s->migrating = 1;
	event = begin(MIGRATE, s->skb);
	if (!event)
		return 0;
	name_socket(event, sk);
	event->type = AT(u8, migrating, SOCK_STATE);
	describe_group(s, sk, AT(u32, migrating, SOCK_HASH));
	return 0;
}

int on_migrated(struct pt_regs *ctx)
{
	struct state *s = current_state();

	if (!s || !s->migrating)
		return 0;
	s->migrating = 0;
	if (PT_REGS_RC(ctx))
		s->listener = PT_REGS_RC(ctx);
	return result(MIGRATED, s, PT_REGS_RC(ctx));
}
