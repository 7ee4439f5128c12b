// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Probes of the witness: what a packet is answered with, and where it is dropped. */

static __always_inline int about_packet(u16 kind, u64 skb, u8 detail, u8 flags)
{
	struct state *s = current_state();
	struct event *event;

	if (!s || !s->skb || (skb && skb != s->skb))
		return 0;
	event = begin(kind, s->skb);
	if (!event)
		return 0;
	event->detail = detail;
	event->flags = flags;
	return 0;
}

int on_cookie_sent(struct pt_regs *ctx)
{
	return about_packet(COOKIE_SENT, 0, 0, 0);
}

int on_icmp(struct pt_regs *ctx)
{
	return about_packet(ICMP, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx));
}

int on_reset(struct pt_regs *ctx)
{
	return about_packet(RESET, 0, 0, 0);
}

int on_drop(struct bpf_raw_tracepoint_args *ctx)
{
	struct state *s = current_state();
	struct event *event;

	if (!s || !s->skb || ctx->args[0] != s->skb)
		return 0;
	event = begin(DROP, s->skb);
	if (!event)
		return 0;
	event->value = ctx->args[1];
#ifdef HAS_REASON
	event->reason = (u32)ctx->args[2];
#endif
	return 0;
}
