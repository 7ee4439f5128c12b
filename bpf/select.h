/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What every program under test shares: the maps, the command in the payload, the six results, and the steps from a
 * context to a verdict. The maps have the names, types and layouts of the kernel's own test_select_reuseport, so that
 * its program can be tested in place of ours and ours in place of its. A program only chooses the key or the map: what
 * two programs share is in a header, never copied.
 *
 * harness/model/abi.py is the Python side of this file.
 */
#ifndef REUSEPORT_SELECT_H
#define REUSEPORT_SELECT_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include "result.h"

/* What the sender asks for, in host byte order at the start of the payload. */
struct cmd {
	__u32 reuseport_index;
	__u32 pass_on_failure;
};

/* What the program saw of the packet it decided last. */
struct data_check {
	__u32 ip_protocol;
	__u32 skb_addrs[8]; /* source then destination; an IPv4 pair fills the first two */
	__u16 skb_ports[2];
	__u16 eth_protocol;
	__u8 bind_inany;
	__u8 equal_check_end[0];
	__u32 len;
	__u32 hash;
};

#ifdef DIRECT
#ifndef INNER_MAP_TYPE
#define INNER_MAP_TYPE BPF_MAP_TYPE_REUSEPORT_SOCKARRAY
#define INNER_KEY __u32
#endif
/* One level: the program names the map of sockets itself; the loader puts its own in this place. */
struct {
	__uint(type, INNER_MAP_TYPE);
	__uint(max_entries, 1);
	__type(key, INNER_KEY);
	__type(value, __u64);
} inner_map SEC(".maps");
#else
#ifndef OUTER_MAP_TYPE
#define OUTER_MAP_TYPE BPF_MAP_TYPE_ARRAY_OF_MAPS
#define OUTER_MAP_ENTRIES 1
#endif
/* Two levels. The loader gives the inner map its type: sockarray, sockmap or sockhash. */
struct {
	__uint(type, OUTER_MAP_TYPE);
	__uint(max_entries, OUTER_MAP_ENTRIES);
	__type(key, __u32);
	__type(value, __u32);
} outer_map SEC(".maps");
#endif

/* An index for the next packet alone, whatever its payload says; -1: none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, int);
} tmp_index_ovr_map SEC(".maps");

/* The line of source that decided last. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} linum_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct data_check);
} data_check_map SEC(".maps");

/* Ours alone: what bpf_sk_select_reuseport() answered last (0 or a negative errno). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __s32);
} select_error_map SEC(".maps");

/* What a program decides: one of enum result, or one of the two below. */
struct decision {
	__u32 result;
	__u32 line;
};

#define NOT_YET NR_RESULTS              /* nothing is decided: the program goes on */
#define PASS_UNCOUNTED (NR_RESULTS + 1) /* leave the packet to the hash, and record nothing of it */

#define DECIDE(RESULT) ((struct decision){ .result = (RESULT), .line = __LINE__ })
#define UNDECIDED DECIDE(NOT_YET)

static __always_inline bool is_decided(struct decision decision)
{
	return decision.result != NOT_YET;
}

struct packet {
	struct data_check seen;
	__u32 payload; /* offset of the payload from the transport header, where ctx->data starts */
};

/*
 * Fill @packet from the context and the headers. Decided here is only what no program can use: packets that cannot be
 * read, and a FIN, which ends a connection that no socket knows any more and carries no command.
 */
static __always_inline struct decision read_packet(struct sk_reuseport_md *ctx, struct packet *packet)
{
	struct data_check *seen = &packet->seen;
	void *data = ctx->data, *data_end = ctx->data_end;
	long failed;

	seen->len = ctx->len;
	seen->hash = ctx->hash;
	seen->eth_protocol = ctx->eth_protocol;
	seen->ip_protocol = ctx->ip_protocol;
	seen->bind_inany = ctx->bind_inany;

	/* The transport header is where data starts, so addresses are read relative to the network header. */
	if (seen->eth_protocol == bpf_htons(ETH_P_IP))
		failed = bpf_skb_load_bytes_relative(ctx, offsetof(struct iphdr, saddr), seen->skb_addrs,
						     2 * sizeof(struct in_addr), BPF_HDR_START_NET);
	else
		failed = bpf_skb_load_bytes_relative(ctx, offsetof(struct ipv6hdr, saddr), seen->skb_addrs,
						     2 * sizeof(struct in6_addr), BPF_HDR_START_NET);
	if (failed)
		return DECIDE(DROP_MISC);

	if (seen->ip_protocol == IPPROTO_UDP) {
		struct udphdr *udp = data;

		if ((void *)(udp + 1) > data_end)
			return DECIDE(DROP_MISC);
		seen->skb_ports[0] = udp->source;
		seen->skb_ports[1] = udp->dest;
		packet->payload = sizeof(*udp);
		return UNDECIDED;
	}
	if (seen->ip_protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = data;

		if ((void *)(tcp + 1) > data_end)
			return DECIDE(DROP_MISC);
		seen->skb_ports[0] = tcp->source;
		seen->skb_ports[1] = tcp->dest;
		packet->payload = tcp->doff << 2;
		return tcp->fin ? DECIDE(PASS_UNCOUNTED) : UNDECIDED;
	}
	return DECIDE(DROP_MISC);
}

/* Read the command from the payload, through the linear part where it reaches and the helper where it does not. */
static __always_inline struct decision read_cmd(struct sk_reuseport_md *ctx, const struct packet *packet,
						struct cmd *cmd)
{
	void *data = ctx->data, *data_end = ctx->data_end;

	if (packet->payload + sizeof(*cmd) > packet->seen.len)
		return DECIDE(DROP_ERR_SKB_DATA);
	/* Only the UDP offset is a constant, which old verifiers need to admit a direct read. */
	if (packet->seen.ip_protocol == IPPROTO_UDP && data + sizeof(struct udphdr) + sizeof(*cmd) <= data_end) {
		*cmd = *(struct cmd *)(data + sizeof(struct udphdr));
		return UNDECIDED;
	}
	if (bpf_skb_load_bytes(ctx, packet->payload, cmd, sizeof(*cmd)))
		return DECIDE(DROP_MISC);
	return UNDECIDED;
}

/* Take the index that was set aside for one packet, if there is one. */
static __always_inline struct decision override_index(__u32 *index)
{
	int *override = bpf_map_lookup_elem(&tmp_index_ovr_map, &only);

	if (!override)
		return DECIDE(DROP_MISC);
	if (*override != -1) {
		*index = *override;
		*override = -1;
	}
	return UNDECIDED;
}

/* Select the socket at @key of @inner_map; a failure is passed on to the hash or dropped. */
static __always_inline struct decision select_from(struct sk_reuseport_md *ctx, void *inner_map, void *key,
						   __u32 pass_on_failure)
{
	__s32 error;

	if (!inner_map)
		return DECIDE(DROP_ERR_INNER_MAP);
	error = bpf_sk_select_reuseport(ctx, inner_map, key, 0);
	bpf_map_update_elem(&select_error_map, &only, &error, BPF_ANY);
	if (!error)
		return DECIDE(PASS);
	if (pass_on_failure)
		return DECIDE(PASS_ERR_SK_SELECT_REUSEPORT);
	return DECIDE(DROP_ERR_SK_SELECT_REUSEPORT);
}

#ifdef DIRECT
#define find_inner_map(OUTER_KEY) (&inner_map)
#else
#define find_inner_map(OUTER_KEY) bpf_map_lookup_elem(&outer_map, OUTER_KEY)
#endif

/* Select the socket at @INDEX of the inner map that the outer one, if there is one, holds at @OUTER_KEY, or drop. */
#define select_at(CTX, OUTER_KEY, INDEX)                                 \
	({                                                               \
		__u32 index_ = (INDEX);                                  \
		select_from(CTX, find_inner_map(OUTER_KEY), &index_, 0); \
	})

/* Count the result, record what was seen, and return the verdict. */
static __always_inline int conclude(const struct packet *packet, struct decision decision)
{
	__u32 *count;

	if (decision.result == PASS_UNCOUNTED)
		return SK_PASS;
	count = bpf_map_lookup_elem(&result_map, &decision.result);
	if (!count)
		return SK_DROP;
	bpf_map_update_elem(&linum_map, &only, &decision.line, BPF_ANY);
	bpf_map_update_elem(&data_check_map, &only, &packet->seen, BPF_ANY);
	__sync_fetch_and_add(count, 1);
	return decision.result < PASS ? SK_DROP : SK_PASS;
}

/*
 * Decide by one function, struct decision CHOOSE(ctx, packet). It is called once the packet was read, if that did not
 * decide it, and has to decide.
 */
#define DECIDE_BY(CTX, CHOOSE)                                          \
	({                                                              \
		struct packet packet_ = {};                             \
		struct decision decision_ = read_packet(CTX, &packet_); \
                                                                        \
		if (!is_decided(decision_))                             \
			decision_ = CHOOSE(CTX, &packet_);              \
		conclude(&packet_, decision_);                          \
	})

/* A whole program from one such function. */
#define SELECT_PROGRAM(CHOOSE)                         \
	SEC("sk_reuseport")                            \
	int select_member(struct sk_reuseport_md *ctx) \
	{                                              \
		return DECIDE_BY(ctx, CHOOSE);         \
	}

#endif
