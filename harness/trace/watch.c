// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts for `python -m harness watch`: what a reuseport group does, added up in the kernel, so that traffic pays for a
 * few map lookups a packet and nothing is sent to user space for it. harness/trace/fields.h stands before this text.
 */

struct place {
	u64 cookie;
	u32 inode;
	u32 unused;
};

struct traffic {
	u64 packets;     /* UDP: put on the receive queue */
	u64 bytes;
	u64 connections; /* TCP: put on the accept queue */
	u64 chosen;      /* by the group, for a datagram or a SYN */
};

enum verdict {
	BY_PROGRAM,
	BY_HASH,  /* the program passed and selected nothing */
	DROPPED,
	UNASKED,  /* no SK_REUSEPORT program is attached */
	VERDICTS,
};

struct watched {
	u32 port;
	u32 netns;
};

struct selection {
	u32 active;
	u32 asked;
	u32 accepted;
	u32 unused;
	u64 listener; /* whose handshake is being completed */
};

struct queueing {
	u64 member; /* whose receive queue a packet is to be put on, 0 if none */
	u64 bytes;
};

BPF_HASH(traffic, struct place, struct traffic, 4096);
BPF_HASH(drops, u64, u64, 512); /* by reason or, where the kernel gives none, by place */
BPF_ARRAY(verdicts, u64, VERDICTS);
BPF_ARRAY(watched, struct watched, 1);
BPF_PERCPU_ARRAY(selection, struct selection, 1);
BPF_PERCPU_ARRAY(queueing, struct queueing, 1);

static __always_inline int of_group(u64 sk)
{
	int zero = 0;
	struct watched *wanted = watched.lookup(&zero);

	return wanted && AT(u16, sk, SOCK_PORT) == wanted->port && AT(u64, sk, SOCK_GROUP) &&
	       AT(u32, AT(u64, sk, SOCK_NET), NET_NUMBER) == wanted->netns;
}

static __always_inline struct traffic *traffic_of(u64 sk)
{
	struct traffic none = {};
	struct place place = {};
	u64 file = AT(u64, sk, SOCK_SOCKET);

	place.cookie = AT(u64, sk, SOCK_COOKIE);
	if (file)
		place.inode = AT(u64, file, SOCKET_INODE);
	if (place.inode) /* a cookie may be made at any time; the inode is there from the start */
		place.cookie = 0;
	return traffic.lookup_or_try_init(&place, &none);
}

static __always_inline void add(u32 which)
{
	u64 *count = verdicts.lookup(&which);

	if (count)
		__sync_fetch_and_add(count, 1);
}

int on_select(struct pt_regs *ctx)
{
	int zero = 0;
	struct selection *s = selection.lookup(&zero);

	if (!s)
		return 0;
	s->active = of_group(PT_REGS_PARM1(ctx));
	s->asked = 0;
	return 0;
}

int on_program_end(struct pt_regs *ctx)
{
	int zero = 0;
	struct selection *s = selection.lookup(&zero);
	u64 returned = PT_REGS_RC(ctx);

	if (!s || !s->active)
		return 0;
	s->asked = 1;
	if (returned >= (u64)-4095)
		add(DROPPED);
	else
		add(returned ? BY_PROGRAM : BY_HASH);
	return 0;
}

int on_selected(struct pt_regs *ctx)
{
	int zero = 0;
	struct selection *s = selection.lookup(&zero);
	u64 returned = PT_REGS_RC(ctx);
	struct traffic *t;

	if (!s || !s->active)
		return 0;
	s->active = 0;
	if (!s->asked)
		add(UNASKED);
	if (!returned || returned >= (u64)-4095)
		return 0;
	t = traffic_of(returned);
	if (t)
		__sync_fetch_and_add(&t->chosen, 1);
	return 0;
}

/* Once it is queued, the packet may be read and freed at any time. */
int on_queue(struct pt_regs *ctx)
{
	u64 sk = PT_REGS_PARM1(ctx);
	int zero = 0;
	struct queueing *q = queueing.lookup(&zero);

	if (!q)
		return 0;
	q->member = of_group(sk) ? sk : 0;
	q->bytes = AT(u32, PT_REGS_PARM2(ctx), SKB_LENGTH);
	return 0;
}

/* A full queue refuses it. */
int on_queued(struct pt_regs *ctx)
{
	int zero = 0;
	struct queueing *q = queueing.lookup(&zero);
	struct traffic *t;

	if (!q || !q->member || (int)PT_REGS_RC(ctx))
		return 0;
	t = traffic_of(q->member);
	if (!t)
		return 0;
	__sync_fetch_and_add(&t->packets, 1);
	__sync_fetch_and_add(&t->bytes, q->bytes);
	return 0;
}

static __always_inline int accept_on(u64 sk)
{
	struct traffic *t;

	if (!of_group(sk))
		return 0;
	t = traffic_of(sk);
	if (t)
		__sync_fetch_and_add(&t->connections, 1);
	return 0;
}

int on_accept_queue(struct pt_regs *ctx)
{
	int zero = 0;
	struct selection *s = selection.lookup(&zero);

	if (s)
		s->accepted = 1;
	return accept_on(PT_REGS_PARM1(ctx));
}

/* The function of the accept queue may have been inlined here: harness/trace/witness.c. */
int on_complete(struct pt_regs *ctx)
{
	int zero = 0;
	struct selection *s = selection.lookup(&zero);

	if (!s)
		return 0;
	s->listener = PT_REGS_PARM1(ctx);
	s->accepted = 0;
	return 0;
}

int on_completed(struct pt_regs *ctx)
{
	int zero = 0;
	struct selection *s = selection.lookup(&zero);

	if (!s || !s->listener)
		return 0;
	if (PT_REGS_RC(ctx) && !s->accepted)
		accept_on(s->listener);
	s->listener = 0;
	return 0;
}

/* Drops of packets to the port, wherever the stack gives them up after it knows their port. */
int on_drop(struct bpf_raw_tracepoint_args *ctx)
{
	u64 skb = ctx->args[0], head = AT(u64, skb, SKB_HEAD), none = 0, *count;
	u16 transport = AT(u16, skb, SKB_TRANSPORT), network = AT(u16, skb, SKB_NETWORK);
	int zero = 0;
	struct watched *wanted = watched.lookup(&zero);
	u64 cause = ctx->args[1];
	u8 protocol;

	if (!wanted || transport == 0xffff || transport <= network)
		return 0;
	protocol = AT(u8, head + network, 0) >> 4 == 4 ? AT(u8, head + network, 9) : AT(u8, head + network, 6);
	if ((protocol != 6 && protocol != 17) || AT(u16, head + transport, 2) != htons(wanted->port) ||
	    AT(u32, AT(u64, AT(u64, skb, SKB_DEVICE), DEVICE_NET), NET_NUMBER) != wanted->netns)
		return 0;
#ifdef HAS_REASON
	cause = (u32)ctx->args[2];
#endif
	count = drops.lookup_or_try_init(&cause, &none);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}
