// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The tracer that bcc compiles against the headers of the kernel under test: it writes down, packet by packet, what the
 * way to a reuseport group's member did. It decides nothing and changes nothing.
 *
 * harness/trace/probes.py says which function of the kernel each probe below belongs to, harness/trace/events.py is the Python side
 * of struct event, harness/trace/story.py makes sentences of it.
 *
 * The log is one array element a CPU, not a ring buffer: a kernel of 5.3 has no ring buffer, and an element is read
 * where it lies, or by one system call, where a perf buffer costs a Python call an event, which emulation makes dear.
 */
/* harness/trace/fields.h stands before this text: AT() and the offsets. */

enum kind {
	ARRIVED = 1,
	LOOKUP,
	GROUP,
	HELPER,
	PROGRAM,
	SELECTED,
	QUEUED,
	REQUEST,
	ACCEPT,
	COOKIE_SENT,
	COOKIE_TAKEN,
	MIGRATE,
	MIGRATED,
	DROP,
	ICMP,
	RESET,
};

struct event {
	u64 time;
	u64 skb;
	u16 kind;
	u8 detail; /* ARRIVED: IP version; LOOKUP: which; ICMP: type */
	u8 flags;  /* ARRIVED: TCP's flags; ICMP: code */
	u32 length;
	union {
		struct {
			u8 source[16];
			u8 destination[16];
			u16 ports[2]; /* as on the wire */
			u32 protocol;
		};
		struct {
			u64 cookie; /* of the socket that the event is about; 0: none was made yet, or no socket */
			u64 value; /* GROUP: hash; HELPER: key; DROP: location; others: a result as the kernel returned it */
			u32 inode;
			u32 id; /* GROUP: the group's; HELPER: the map's */
			u32 program;
			u32 type; /* GROUP: the program's; HELPER: the map's; MIGRATE: the migrating socket's state */
			u16 members;
			u16 closed;
			u32 reason; /* DROP: enum skb_drop_reason; HELPER: the answer; GROUP: 1 any address, 2 connected members, 4 a program */
		};
	};
};

struct log {
	u64 next;
	struct event events[LOG_EVENTS];
};

/* To bcc a log is text: it would write code that prints each member of each event. */
struct opaque_log {
	char bytes[LOG_SIZE];
};

struct settings {
	u32 netns; /* 0: nobody is listening */
};

struct state {
	u64 skb; /* the packet that this CPU is receiving, 0 if none */
	u64 context; /* of bpf_sk_select_reuseport() */
	u64 map;
	u64 key;
	u64 listener; /* whose handshake is being completed */
	u64 queueing; /* whose receive queue the packet is to be put on */
	u32 accepted;
	u32 selecting;
	u32 migrating;
};

BPF_F_TABLE("array", int, struct opaque_log, logs, LOG_CPUS, ARRAY_FLAGS);
BPF_F_TABLE("array", int, struct settings, settings, 1, ARRAY_FLAGS);
BPF_PERCPU_ARRAY(state, struct state, 1);

static __always_inline struct state *current_state(void)
{
	int zero = 0;

	return state.lookup(&zero);
}

static __always_inline struct event *begin(u16 kind, u64 skb)
{
	int cpu = bpf_get_smp_processor_id();
	struct log *l = (struct log *)logs.lookup(&cpu);
	struct event *event;

	if (!l)
		return NULL;
	event = &l->events[l->next & (LOG_EVENTS - 1)];
	l->next++;
	__builtin_memset(event, 0, sizeof(*event));
	event->time = bpf_ktime_get_ns();
	event->skb = skb;
	event->kind = kind;
	return event;
}

static __always_inline int watched(u64 net)
{
	int zero = 0;
	struct settings *wanted = settings.lookup(&zero);

	return wanted && wanted->netns && net && AT(u32, net, NET_NUMBER) == wanted->netns;
}

static __always_inline int watched_socket(u64 sk)
{
	return watched(AT(u64, sk, SOCK_NET));
}

static __always_inline void name_socket(struct event *event, u64 sk)
{
	u64 file = AT(u64, sk, SOCK_SOCKET);

	event->cookie = AT(u64, sk, SOCK_COOKIE);
	/* struct socket is the first member of struct socket_alloc */
	if (file)
		event->inode = AT(u64, file, SOCKET_INODE);
}

static __always_inline int is_error(u64 pointer)
{
	return pointer >= (u64)-4095;
}

static __always_inline int result(u16 kind, struct state *s, u64 returned)
{
	struct event *event = begin(kind, s->skb);

	if (!event)
		return 0;
	event->value = returned;
	if (returned && !is_error(returned))
		name_socket(event, returned);
	return 0;
}

/* A packet reaches its protocol. */

static __always_inline int arrive(u64 skb, u32 protocol)
{
	struct state *s = current_state();
	struct event *event;
	u64 head, network, transport;

	if (!s)
		return 0;
	s->skb = 0;
	s->selecting = 0;
	if (!watched(AT(u64, AT(u64, skb, SKB_DEVICE), DEVICE_NET)))
		return 0;
	s->skb = skb;
	event = begin(ARRIVED, skb);
	if (!event)
		return 0;
	head = AT(u64, skb, SKB_HEAD);
	network = head + AT(u16, skb, SKB_NETWORK);
	transport = head + AT(u16, skb, SKB_TRANSPORT);
	event->length = AT(u32, skb, SKB_LENGTH);
	event->detail = AT(u8, network, 0) >> 4;
	event->protocol = protocol;
	if (event->detail == 4) {
		bpf_probe_read_kernel(event->source, 4, (void *)network + 12);
		bpf_probe_read_kernel(event->destination, 4, (void *)network + 16);
	} else {
		bpf_probe_read_kernel(event->source, 16, (void *)network + 8);
		bpf_probe_read_kernel(event->destination, 16, (void *)network + 24);
	}
	bpf_probe_read_kernel(event->ports, 4, (void *)transport);
	if (protocol == 6)
		event->flags = AT(u8, transport, 13);
	return 0;
}

int on_udp(struct pt_regs *ctx)
{
	return arrive(PT_REGS_PARM1(ctx), 17);
}

int on_tcp(struct pt_regs *ctx)
{
	return arrive(PT_REGS_PARM1(ctx), 6);
}

int on_received(struct pt_regs *ctx)
{
	struct state *s = current_state();

	if (s)
		s->skb = 0;
	return 0;
}

/* The lookup, and the group that it found. */

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
	event->reason = AT(u8, group, GROUP_FLAGS) & 3;
	program = AT(u64, group, GROUP_PROGRAM);
	if (!program)
		return;
	event->reason |= 4;
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

/* Where it ends. */

static __always_inline int about_socket(u16 kind, u64 sk)
{
	struct state *s = current_state();
	struct event *event;

	/* A migration comes to its queue without a packet, from the closing listener or a timer. */
	if (!s || !(s->skb || watched_socket(sk)))
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

/* A full queue refuses it. */
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
 * The compiler may have put the function of the accept queue into the one that completes a handshake, where it can't be
 * seen: then the listener that this one was called for, or was given by a migration meanwhile, is the one.
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

/* A listener goes and another of its group takes over what it had. */

int on_migrate(struct pt_regs *ctx)
{
	u64 sk = PT_REGS_PARM1(ctx), migrating = PT_REGS_PARM2(ctx);
	struct state *s = current_state();
	struct event *event;

	if (!s || !watched_socket(sk))
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
