// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Select by the payload's command; when a listener closes, give its requests and connections to the member at the
 * index in state_map, to the member that the hash points to (BY_HASH), or to none (REFUSE).
 */
#define DIRECT
#include "select.h"
#include "memory.h"

#define BY_HASH 1000
#define REFUSE 1001

/* What the program saw of the migration it decided last. */
struct migration {
	__u64 listener;  /* cookie of the socket that closes */
	__u32 state;     /* of the socket that migrates: TCP_NEW_SYN_RECV, TCP_ESTABLISHED, TCP_SYN_RECV */
	__u32 count;
	__u32 len;
	__u32 eth_protocol;
	__u32 linear;
	__s32 error;     /* what bpf_sk_select_reuseport() answered */
	__u32 hash;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct migration);
} migration_map SEC(".maps");

static __always_inline int migrate(struct sk_reuseport_md *ctx, struct bpf_sock *migrating)
{
	struct migration *seen = bpf_map_lookup_elem(&migration_map, &only);
	__u64 *target = bpf_map_lookup_elem(&state_map, &only);
	__u32 index;

	if (!seen || !target)
		return SK_DROP;
	seen->listener = bpf_get_socket_cookie(ctx->sk);
	seen->state = migrating->state;
	seen->hash = ctx->hash;
	seen->len = ctx->len;
	seen->eth_protocol = ctx->eth_protocol;
	seen->linear = (__u32)((long)ctx->data_end - (long)ctx->data);
	__sync_fetch_and_add(&seen->count, 1);
	if (*target == BY_HASH)
		return SK_PASS;
	if (*target == REFUSE)
		return SK_DROP;
	index = *target;
	seen->error = bpf_sk_select_reuseport(ctx, &inner_map, &index, 0);
	return seen->error ? SK_DROP : SK_PASS;
}

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	struct decision decision;
	struct cmd cmd;

	decision = read_cmd(ctx, packet, &cmd);
	if (is_decided(decision))
		return decision;
	return select_at(ctx, &only, cmd.reuseport_index);
}

SEC("sk_reuseport/migrate")
int select_or_migrate(struct sk_reuseport_md *ctx)
{
	if (ctx->migrating_sk)
		return migrate(ctx, ctx->migrating_sk);
	return DECIDE_BY(ctx, choose);
}
