/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The log of the witness: what every probe writes its events with, and what a CPU remembers between two probes.
 *
 * The witness is compiled by bcc against the headers of the kernel under test. It records, packet by packet, what the
 * selection path did. It decides nothing and changes nothing. harness/trace/witness.py has the list of its files, which
 * are compiled as one text; harness/trace/probes.py says which function of the kernel each probe belongs to;
 * harness/trace/events.py is the Python side of struct event.
 *
 * The log is one array element per CPU, not a ring buffer: a kernel of 5.3 has no ring buffer. An element is read in
 * place, or by one system call; a perf buffer costs a call of Python per event, which is slow under emulation.
 */

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

enum group_flags {
	ANY_ADDRESS = 1, /* bind_inany */
	CONNECTED = 2,   /* has_conns */
	HAS_PROGRAM = 4,
};

struct event {
	u64 time;
	u64 skb;
	u16 kind;
	u8 detail; /* ARRIVED: IP version; LOOKUP: which one; ICMP: type */
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
			u64 cookie; /* of the event's socket; 0: it has none yet, or there is no socket */
			u64 value;  /* GROUP: hash; HELPER: key; DROP: address; others: what the function returned */
			u32 inode;
			u32 id;     /* GROUP: the group's; HELPER: the map's */
			u32 program;
			u32 type;   /* GROUP: the program's; HELPER: the map's; MIGRATE: the connection's state */
			u16 members;
			u16 closed;
			u32 reason; /* DROP: enum skb_drop_reason; HELPER: result; GROUP: enum group_flags */
		};
	};
};

struct log {
	u64 next;
	struct event events[LOG_EVENTS];
};

/* bcc is shown a log as bytes: otherwise it generates code that prints each member of each event. */
struct opaque_log {
	char bytes[LOG_SIZE];
};

struct settings {
	u32 netns; /* the network namespace to record, by its inode; 0: none */
};

struct state {
	u64 skb; /* the packet that this CPU is receiving, 0 if none */
	u64 context; /* of bpf_sk_select_reuseport() */
	u64 map;
	u64 key;
	u64 listener; /* of the handshake that is being completed */
	u64 queueing; /* the socket on whose receive queue the packet is being put */
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

static __always_inline int traced(u64 net)
{
	int zero = 0;
	struct settings *wanted = settings.lookup(&zero);

	return wanted && wanted->netns && net && AT(u32, net, NET_NUMBER) == wanted->netns;
}

static __always_inline int traced_socket(u64 sk)
{
	return traced(AT(u64, sk, SOCK_NET));
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
