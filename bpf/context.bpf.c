// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Read every field of the context at every width and offset that a program may, record all, and pass. */
#define DIRECT
#include "select.h"

#define MOST_READS 64

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MOST_READS);
	__type(key, __u32);
	__type(value, __u64);
} context_map SEC(".maps");

static __always_inline void note(__u32 place, __u64 value)
{
	bpf_map_update_elem(&context_map, &place, &value, BPF_ANY);
}

/* volatile: the compiler must not widen, merge or move a read */
#define READ(PLACE, TYPE, FIELD, AT) \
	note(PLACE, *(volatile TYPE *)((char *)ctx + offsetof(struct sk_reuseport_md, FIELD) + (AT)))
#define READ_EVERY_WIDTH(PLACE, FIELD)            \
	do {                                      \
		READ(PLACE, __u32, FIELD, 0);     \
		READ(PLACE + 1, __u16, FIELD, 0); \
		READ(PLACE + 2, __u8, FIELD, 0);  \
	} while (0)

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	(void)packet;
	READ_EVERY_WIDTH(0, len);
	READ_EVERY_WIDTH(3, ip_protocol);
	READ_EVERY_WIDTH(6, bind_inany);
	READ(9, __u32, eth_protocol, 0);
	READ(10, __u16, eth_protocol, 0);
	READ(11, __u32, hash, 0);
	note(12, (__u64)ctx->data_end - (__u64)ctx->data);
	return DECIDE(PASS);
}

SELECT_PROGRAM(choose);
