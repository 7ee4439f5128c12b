// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A dispatcher of tunnels: a number in the packet is looked up in a HASH_OF_MAPS, whose inner maps have one slot each,
 * so that a worker is replaced by replacing its map. The program's part of a number is a constant that may be patched.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 mask = 7;

struct worker {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 64);
	__type(key, __u32);
	__array(values, struct worker);
} workers SEC(".maps");

SEC("sk_reuseport")
int by_number(struct sk_reuseport_md *ctx)
{
	__u32 number = 0, slot = 0;
	void *worker;

	if (bpf_skb_load_bytes(ctx, 8, (__u8 *)&number, 1))
		return SK_PASS;
	number &= mask;
	worker = bpf_map_lookup_elem(&workers, &number);
	if (worker)
		bpf_sk_select_reuseport(ctx, worker, &slot, 0);
	return SK_PASS;
}
