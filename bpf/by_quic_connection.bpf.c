// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A hash of sockets by the server's connection ID; a connection that nobody entered is left to the hash. */
#define DIRECT
#define INNER_KEY __u64
#define INNER_MAP_TYPE BPF_MAP_TYPE_SOCKHASH
#include "quic.h"

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	struct decision decision;
	__u64 cid;

	decision = read_cid(ctx, packet, (__u8 *)&cid);
	if (decision.result != NR_RESULTS)
		return decision;
	return select_from(ctx, &inner_map, &cid, 1);
}

SELECT_PROGRAM(choose);
