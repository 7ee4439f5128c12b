// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Two members that share the clients by the parity of their port; each stands in for the other. */
#include "in_order.h"

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	return select_in_order(ctx, bpf_ntohs(packet->seen.skb_ports[0]) & 1);
}

SELECT_PROGRAM(choose);
