// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Two programs in one object, of the two kinds that a group takes: entry=NAME says which is meant. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

SEC("socket")
int any_of_eight(struct __sk_buff *skb)
{
	return bpf_get_prandom_u32() & 7; /* a place in the group */
}

SEC("sk_reuseport")
int left_to_the_hash(struct sk_reuseport_md *ctx)
{
	return ctx->data ? SK_PASS : SK_DROP;
}
