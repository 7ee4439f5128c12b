// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The first byte of the server's connection ID is the index of the member that chose it. */
#include "quic.h"

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	__u8 cid[QUIC_CID_LENGTH];
	struct decision decision = read_cid(ctx, packet, cid);

	if (is_decided(decision))
		return decision;
	return select_at(ctx, &only, cid[0]);
}

SELECT_PROGRAM(choose);
