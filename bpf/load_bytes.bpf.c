// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Call a helper that reads the packet with the arguments that the host gave, record its answer, and pass. */
#define DIRECT
#include "select.h"

#define MOST_BYTES 64
#define ABSOLUTE 0xffffffff

struct question {
	__u32 offset;
	__u32 length;
	__u32 header; /* of bpf_skb_load_bytes_relative(); ABSOLUTE asks bpf_skb_load_bytes() */
};

struct answer {
	__s32 error;
	__u8 bytes[MOST_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct question);
} question_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct answer);
} answer_map SEC(".maps");

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	struct question *question = bpf_map_lookup_elem(&question_map, &only);
	struct answer *answer = bpf_map_lookup_elem(&answer_map, &only);
	__u32 length;

	(void)packet;
	if (!question || !answer)
		return DECIDE(DROP_MISC);
	/* 1 to MOST_BYTES: every verifier knows the bound of a mask; some lose that of a comparison */
	length = ((question->length - 1) & (MOST_BYTES - 1)) + 1;
	if (question->header == ABSOLUTE)
		answer->error = bpf_skb_load_bytes(ctx, question->offset, answer->bytes, length);
	else
		answer->error = bpf_skb_load_bytes_relative(ctx, question->offset, answer->bytes, length,
							    question->header);
	return DECIDE(PASS);
}

SELECT_PROGRAM(choose);
