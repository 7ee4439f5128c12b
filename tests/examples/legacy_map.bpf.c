// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A program with a map in the form that libbpf read before its version 1.0. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

struct bpf_map_def {
	unsigned int type;
	unsigned int key_size;
	unsigned int value_size;
	unsigned int max_entries;
	unsigned int map_flags;
};

struct bpf_map_def SEC("maps") listeners = {
	.type = BPF_MAP_TYPE_REUSEPORT_SOCKARRAY,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u64),
	.max_entries = 8,
};

SEC("sk_reuseport")
int by_hash(struct sk_reuseport_md *ctx)
{
	__u32 slot = ctx->hash & 7;

	bpf_sk_select_reuseport(ctx, &listeners, &slot, 0);
	return SK_PASS;
}
