// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The counters of `python -m harness watch`: what a reuseport group does, added up in the kernel. A packet costs a few
 * map lookups, and nothing is sent to user space for it. harness/trace/fields.h is compiled before this file.
 */

struct member {
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

enum selection {
	BY_PROGRAM,
	BY_HASH,    /* the program passed and selected nothing */
	DROPPED,
	NO_PROGRAM, /* no SK_REUSEPORT program is attached */
	SELECTIONS,
};

struct watched {
	u32 port;
	u32 netns;
};

/* What a CPU remembers between two probes. */
struct state {
	u32 selecting;
	u32 program_ran;
	u32 accepted;
	u32 unused;
	u64 listener; /* of the handshake that is being completed */
};

struct queueing {
	u64 member; /* the one on whose receive queue a packet is being put, 0 if none */
	u64 bytes;
};

BPF_HASH(traffic, struct member, struct traffic, 4096);
BPF_HASH(drops, u64, u64, 512); /* by reason or, where the kernel gives none, by the address that dropped */
BPF_ARRAY(selections, u64, SELECTIONS);
BPF_ARRAY(watched, struct watched, 1);
BPF_PERCPU_ARRAY(state, struct state, 1);
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
	struct member member = {};
	u64 file = AT(u64, sk, SOCK_SOCKET);

	member.cookie = AT(u64, sk, SOCK_COOKIE);
	if (file)
		member.inode = AT(u64, file, SOCKET_INODE);
	if (member.inode) /* a socket has its inode from the start and may get its cookie at any time */
		member.cookie = 0;
	return traffic.lookup_or_try_init(&member, &none);
}

static __always_inline void count(u32 which)
{
	u64 *sum = selections.lookup(&which);

	if (sum)
		__sync_fetch_and_add(sum, 1);
}

int on_select(struct pt_regs *ctx)
{
	int zero = 0;
	struct state *s = state.lookup(&zero);

	if (!s)
		return 0;
	s->selecting = of_group(PT_REGS_PARM1(ctx));
	s->program_ran = 0;
	return 0;
}

int on_program_end(struct pt_regs *ctx)
{
	int zero = 0;
	struct state *s = state.lookup(&zero);
	u64 returned = PT_REGS_RC(ctx);

	if (!s || !s->selecting)
		return 0;
	s->program_ran = 1;
	if (returned >= (u64)-4095)
		count(DROPPED);
	else
		count(returned ? BY_PROGRAM : BY_HASH);
	return 0;
}

int on_selected(struct pt_regs *ctx)
{
	int zero = 0;
	struct state *s = state.lookup(&zero);
	u64 returned = PT_REGS_RC(ctx);
	struct traffic *t;

	if (!s || !s->selecting)
		return 0;
	s->selecting = 0;
	if (!s->program_ran)
		count(NO_PROGRAM);
	if (!returned || returned >= (u64)-4095)
		return 0;
	t = traffic_of(returned);
	if (t)
		__sync_fetch_and_add(&t->chosen, 1);
	return 0;
}

/* The length is read before the packet is queued: after that it may be read and freed at any time. */
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

/* A full queue refuses the packet. */
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
	struct state *s = state.lookup(&zero);

	if (s)
		s->accepted = 1;
	return accept_on(PT_REGS_PARM1(ctx));
}

/* The function of the accept queue may have been inlined here: harness/trace/witness_queues.c. */
int on_complete(struct pt_regs *ctx)
{
	int zero = 0;
	struct state *s = state.lookup(&zero);

	if (!s)
		return 0;
	s->listener = PT_REGS_PARM1(ctx);
	s->accepted = 0;
	return 0;
}

int on_completed(struct pt_regs *ctx)
{
	int zero = 0;
	struct state *s = state.lookup(&zero);

	if (!s || !s->listener)
		return 0;
	if (PT_REGS_RC(ctx) && !s->accepted)
		accept_on(s->listener);
	s->listener = 0;
	return 0;
}

/* A packet to the port is dropped, at any point from which its port is known. */
int on_drop(struct bpf_raw_tracepoint_args *ctx)
{
	u64 skb = ctx->args[0], head = AT(u64, skb, SKB_HEAD), none = 0, *sum;
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
	sum = drops.lookup_or_try_init(&cause, &none);
	if (sum)
		__sync_fetch_and_add(sum, 1);
	return 0;
}
