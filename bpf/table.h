/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* For programs that look members up in a table which the host computes (harness/model/consistent_hashing.py). */
#ifndef REUSEPORT_TABLE_H
#define REUSEPORT_TABLE_H

#include <stddef.h>
#include "result.h"

#define TABLE_SIZE 8191 /* a prime, as Maglev needs */
#define NOBODY 0xffffffff

struct table {
	__u32 entries[TABLE_SIZE];
};

/* One value: the host loads the whole table by one call. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct table);
} table_map SEC(".maps");

/* Return the entry at an index, NULL beyond the table's end. */
static __always_inline __u32 *table_entry(__u32 at)
{
	struct table *table = bpf_map_lookup_elem(&table_map, &only);

	/* The compiler knows that a remainder is in bounds and would drop the comparison, which the verifier needs. */
	asm volatile("" : "+r"(at));
	if (!table || at >= TABLE_SIZE)
		return NULL;
	return &table->entries[at];
}

#endif
