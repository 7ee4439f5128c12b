// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A QUIC server's program: the second byte of a short header is the worker's slot, all else is left to the hash. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} workers SEC(".maps");

SEC("sk_reuseport")
int by_worker(struct sk_reuseport_md *ctx)
{
	__u8 start[2];
	__u32 slot;

	if (bpf_skb_load_bytes(ctx, 8, start, sizeof(start)) || start[0] & 0x80)
		return SK_PASS; /* too short to name a worker, or a long header */
	slot = start[1];
	bpf_sk_select_reuseport(ctx, &workers, &slot, 0);
	return SK_PASS;
}
