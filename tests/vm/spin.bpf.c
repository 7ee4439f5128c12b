// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Loop where the kernel has interrupts off, for longer than anybody waits: a timer's tracepoint, and two bpf_loop()
 * (5.17) of 2^23 rounds in each other.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define ROUNDS (1 << 23)

static long inner(__u32 round, void *context)
{
	return 0;
}

static long outer(__u32 round, void *context)
{
	bpf_loop(ROUNDS, inner, context, 0);
	return 0;
}

SEC("tracepoint/timer/hrtimer_expire_entry")
int spin(void *context)
{
	__u64 nothing = 0;

	bpf_loop(ROUNDS, outer, &nothing, 0);
	return 0;
}

char spin_license[] SEC("license") = "Dual BSD/GPL";
