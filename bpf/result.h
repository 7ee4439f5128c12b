/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What programs of every program type share: the licence, the results, and the map that counts them. */
#ifndef REUSEPORT_RESULT_H
#define REUSEPORT_RESULT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

/* Below PASS the verdict is SK_DROP; the numbers are indices of result_map. */
enum result {
	DROP_ERR_INNER_MAP,
	DROP_ERR_SKB_DATA,
	DROP_ERR_SK_SELECT_REUSEPORT,
	DROP_MISC,
	PASS,
	PASS_ERR_SK_SELECT_REUSEPORT,
	NR_RESULTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NR_RESULTS);
	__type(key, __u32);
	__type(value, __u32);
} result_map SEC(".maps");

static const __u32 only = 0; /* the one key of the maps that hold one value */

#endif
