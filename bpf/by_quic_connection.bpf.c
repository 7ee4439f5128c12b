// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A sockhash by the server's connection ID; a connection that is not in it is left to the kernel's hash. */
#define DIRECT
#define INNER_KEY __u64
#define INNER_MAP_TYPE BPF_MAP_TYPE_SOCKHASH
#include "quic.h"

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	struct decision decision;
	__u64 cid;

	decision = read_cid(ctx, packet, (__u8 *)&cid);
	if (is_decided(decision))
		return decision;
	return select_from(ctx, &inner_map, &cid, 1);
}

SELECT_PROGRAM(choose);
