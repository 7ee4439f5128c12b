// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Probes of the witness: the lookup, the group that it found, and the group's choice. */

static __always_inline int look_up(u8 which)
{
	struct state *s = current_state();
	struct event *event;

	if (!s || !s->skb)
		return 0;
	event = begin(LOOKUP, s->skb);
	if (event)
		event->detail = which;
	return 0;
}

int on_udp4_lookup(struct pt_regs *ctx)
{
	return look_up(1);
}

int on_udp6_lookup(struct pt_regs *ctx)
{
	return look_up(2);
}

int on_tcp4_lookup(struct pt_regs *ctx)
{
	return look_up(3);
}

int on_tcp6_lookup(struct pt_regs *ctx)
{
	return look_up(4);
}

static __always_inline void describe_group(struct state *s, u64 sk, u32 hash)
{
	u64 group = AT(u64, sk, SOCK_GROUP), program;
	struct event *event;

	if (!group)
		return;
	event = begin(GROUP, s->skb);
	if (!event)
		return;
	event->value = hash;
	event->id = AT(u32, group, GROUP_ID);
	event->members = AT(u16, group, GROUP_MEMBERS);
#ifdef GROUP_CLOSED
	event->closed = AT(u16, group, GROUP_CLOSED);
#endif
	event->reason = AT(u8, group, GROUP_FLAGS) & (ANY_ADDRESS | CONNECTED);
	program = AT(u64, group, GROUP_PROGRAM);
	if (!program)
		return;
	event->reason |= HAS_PROGRAM;
	event->type = AT(u32, program, PROGRAM_TYPE);
	event->program = AT(u32, AT(u64, program, PROGRAM_AUX), AUX_ID);
}

int on_select(struct pt_regs *ctx)
{
	struct state *s = current_state();

	if (!s || !s->skb || PT_REGS_PARM3(ctx) != s->skb)
		return 0;
	s->selecting = 1;
	describe_group(s, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
	return 0;
}

int on_selected(struct pt_regs *ctx)
{
	struct state *s = current_state();

	if (!s || !s->selecting)
		return 0;
	s->selecting = 0;
	return result(SELECTED, s, PT_REGS_RC(ctx));
}

int on_program_end(struct pt_regs *ctx)
{
	struct state *s = current_state();

	if (!s || !(s->selecting || s->migrating))
		return 0;
	return result(PROGRAM, s, PT_REGS_RC(ctx));
}

int on_helper(struct pt_regs *ctx)
{
	struct state *s = current_state();

	if (!s)
		return 0;
	s->context = PT_REGS_PARM1(ctx);
	s->map = PT_REGS_PARM2(ctx);
	s->key = PT_REGS_PARM3(ctx);
	return 0;
}

int on_helper_end(struct pt_regs *ctx)
{
	struct state *s = current_state();
	struct event *event;
	u64 chosen;

	if (!s || !(s->selecting || s->migrating))
		return 0;
	event = begin(HELPER, s->skb);
	if (!event)
		return 0;
	event->id = AT(u32, s->map, MAP_ID);
	event->type = AT(u32, s->map, MAP_TYPE);
	event->length = AT(u32, s->map, MAP_KEY_SIZE);
	event->value = AT(u32, s->key, 0);
	event->reason = (u32)PT_REGS_RC(ctx);
	if (event->reason)
		return 0;
	chosen = AT(u64, s->context, CONTEXT_SELECTED);
	if (chosen)
		name_socket(event, chosen);
	return 0;
}
