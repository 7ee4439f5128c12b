/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* For programs that keep a number from packet to packet; the host can read and set it. */
#ifndef REUSEPORT_MEMORY_H
#define REUSEPORT_MEMORY_H

#include "result.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} state_map SEC(".maps");

#endif
