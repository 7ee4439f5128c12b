// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Probes of the witness: the queues and requests of sockets, where a packet ends. */

static __always_inline int about_socket(u16 kind, u64 sk)
{
	struct state *s = current_state();
	struct event *event;

	/* A migrated connection is queued without a packet: by the closing listener, or by a timer. */
	if (!s || !(s->skb || traced_socket(sk)))
		return 0;
	event = begin(kind, s->skb);
	if (event)
		name_socket(event, sk);
	return 0;
}

int on_queue(struct pt_regs *ctx)
{
	struct state *s = current_state();

	if (s)
		s->queueing = PT_REGS_PARM1(ctx);
	return 0;
}

/* A full queue refuses the packet. */
int on_queued(struct pt_regs *ctx)
{
	struct state *s = current_state();

	if (!s || !s->queueing)
		return 0;
	if (!(int)PT_REGS_RC(ctx))
		about_socket(QUEUED, s->queueing);
	s->queueing = 0;
	return 0;
}

int on_request(struct pt_regs *ctx)
{
	return about_socket(REQUEST, PT_REGS_PARM1(ctx));
}

int on_accept_queue(struct pt_regs *ctx)
{
	struct state *s = current_state();

	if (s)
		s->accepted = 1;
	return about_socket(ACCEPT, PT_REGS_PARM1(ctx));
}

/*
 * The compiler may have inlined the function of the accept queue into the one that completes a handshake, where it has
 * no probe. Then the listener is the one that this function was called for, or that a migration gave in between.
 */
int on_complete(struct pt_regs *ctx)
{
	struct state *s = current_state();

	if (!s)
		return 0;
	s->listener = PT_REGS_PARM1(ctx);
	s->accepted = 0;
	return 0;
}

int on_completed(struct pt_regs *ctx)
{
	struct state *s = current_state();

	if (!s || !s->listener)
		return 0;
	if (PT_REGS_RC(ctx) && !s->accepted)
		about_socket(ACCEPT, s->listener);
	s->listener = 0;
	return 0;
}

int on_cookie_taken(struct pt_regs *ctx)
{
	return about_socket(COOKIE_TAKEN, PT_REGS_PARM1(ctx));
}
