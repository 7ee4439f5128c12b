// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Select nothing, return VERDICT (a -D of the compiler), and record the hash of each source port. */
#define DIRECT
#include "select.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u32);
} hash_map SEC(".maps");

SEC("sk_reuseport")
int select_nobody(struct sk_reuseport_md *ctx)
{
	struct packet packet = {};
	struct decision decision = read_packet(ctx, &packet);
	__u32 port = bpf_ntohs(packet.seen.skb_ports[0]);

	if (!is_decided(decision)) {
		bpf_map_update_elem(&hash_map, &port, &packet.seen.hash, BPF_ANY);
		decision = VERDICT == SK_PASS ? DECIDE(PASS) : DECIDE(DROP_MISC);
	}
	conclude(&packet, decision);
	return VERDICT;
}
