// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * An example of a program of one's own: a QUIC server's sockets in a SOCKHASH by connection ID. A short header names
 * the connection, so its packets reach the socket that has it, whatever address they come from; everything else, a
 * new client's Initial first of all, is left to the hash.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

struct connection_id {
	__u8 bytes[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 1024);
	__type(key, struct connection_id);
	__type(value, __u64);
} connections SEC(".maps");

SEC("sk_reuseport")
int by_connection(struct sk_reuseport_md *ctx)
{
	struct connection_id id;
	__u8 first;

	if (bpf_skb_load_bytes(ctx, 8, &first, sizeof(first)) || first & 0x80)
		return SK_PASS; /* nothing there, or a long header */
	if (bpf_skb_load_bytes(ctx, 9, &id, sizeof(id)))
		return SK_DROP; /* too short to name a connection */
	bpf_sk_select_reuseport(ctx, &connections, &id, 0);
	return SK_PASS;
}
