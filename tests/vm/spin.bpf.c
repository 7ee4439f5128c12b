// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Keep the kernel for 2^46 rounds, which is longer than anybody waits: two bpf_loop() (5.17) of 2^23 rounds in each
 * other. A program runs with preemption disabled; where it is attached says what else stands still.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define ROUNDS (1 << 23)

static long inner(__u32 round, void *context)
{
	(void)round;
	(void)context;
	return 0;
}

static long outer(__u32 round, void *context)
{
	(void)round;
	bpf_loop(ROUNDS, inner, context, 0);
	return 0;
}

/* In a system call: interrupts go on, so the kernel's own watchdog sees it. */
SEC("raw_tracepoint/sys_enter")
int sys_enter(void *context)
{
	__u64 nothing = 0;

	(void)context;
	bpf_loop(ROUNDS, outer, &nothing, 0);
	return 0;
}

/* In the timer's interrupt: no other comes any more, and nobody inside sees anything. */
SEC("raw_tracepoint/hrtimer_expire_entry")
int hrtimer_expire_entry(void *context)
{
	__u64 nothing = 0;

	(void)context;
	bpf_loop(ROUNDS, outer, &nothing, 0);
	return 0;
}

char spin_license[] SEC("license") = "Dual BSD/GPL";
