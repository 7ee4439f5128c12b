// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A program whose map another loader makes: it is declared, and the loader writes its file descriptor into each
 * instruction that names it. The section's name comes from the command line.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef SECTION
#define SECTION "sk_reuseport"
#endif

char _license[] SEC("license") = "Dual BSD/GPL";

extern int listeners;

SEC(SECTION)
int by_first_byte(struct sk_reuseport_md *ctx)
{
	__u32 slot = 0;

	if (bpf_skb_load_bytes(ctx, 8, (__u8 *)&slot, 1))
		return SK_PASS;
	slot &= 7;
	bpf_sk_select_reuseport(ctx, &listeners, &slot, 0);
	return SK_PASS;
}
