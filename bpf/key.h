/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * For programs that differ by the key they take from a packet: the member is the one at KEY modulo the size of the
 * group. Such a program is one function, struct decision KEY_OF(ctx, packet, &key). It returns UNDECIDED if it found a
 * key, and otherwise its decision.
 */
#ifndef REUSEPORT_KEY_H
#define REUSEPORT_KEY_H

#include "select.h"

/* How many members keys are spread over. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} size_map SEC(".maps");

/* Turn a key into the index of a member. */
static __always_inline struct decision spread(__u32 key, __u32 *index)
{
	__u32 *size = bpf_map_lookup_elem(&size_map, &only);

	if (!size || !*size)
		return DECIDE(DROP_MISC);
	*index = key % *size;
	return UNDECIDED;
}

#define SELECT_BY_KEY(KEY_OF)                                                                             \
	static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet) \
	{                                                                                                 \
		struct decision decision;                                                                 \
		__u32 key, index;                                                                         \
                                                                                                          \
		decision = KEY_OF(ctx, packet, &key);                                                     \
		if (is_decided(decision))                                                                 \
			return decision;                                                                  \
		decision = spread(key, &index);                                                           \
		if (is_decided(decision))                                                                 \
			return decision;                                                                  \
		return select_at(ctx, &only, index);                                                      \
	}                                                                                                 \
	SELECT_PROGRAM(choose)

#endif
