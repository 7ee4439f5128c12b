/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* For programs that look members up in a table which the host computes (harness/consistent.py). */
#ifndef REUSEPORT_TABLE_H
#define REUSEPORT_TABLE_H

#include "result.h"

#define TABLE_SIZE 8191 /* a prime, as Maglev needs */
#define NOBODY 0xffffffff

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TABLE_SIZE);
	__type(key, __u32);
	__type(value, __u32);
} table_map SEC(".maps");

#endif
