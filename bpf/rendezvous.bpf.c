// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Consistent hashing by the highest score (HRW). The table lists the nodes: a member of weight N has N of them. A node is
 * the member's index in the low half and the number of the repetition in the high half. NOBODY ends the list.
 */
#include "hash.h"
#include "rendezvous.h"
#include "table.h"

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	__u32 client = hash_client(packet), best = 0, winner = NOBODY, at;

#pragma clang loop unroll(disable)
	for (at = 0; at < MOST_NODES; at++) {
		__u32 *node = table_entry(at), score;

		if (!node || *node == NOBODY)
			break;
		score = fmix32(client ^ fmix32(*node));
		if (winner == NOBODY || score > best) {
			best = score;
			winner = *node & 0xffff;
		}
	}
	return select_at(ctx, &only, winner);
}

SELECT_PROGRAM(choose);
