// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Two levels: the destination port names the group, the payload the member. Several groups share the one program. */
#define OUTER_MAP_TYPE BPF_MAP_TYPE_HASH_OF_MAPS
#define OUTER_MAP_ENTRIES 16
#include "select.h"

static __always_inline struct decision choose(struct sk_reuseport_md *ctx, struct packet *packet)
{
	__u32 port = bpf_ntohs(packet->seen.skb_ports[1]);
	struct decision decision;
	struct cmd cmd;

	decision = read_cmd(ctx, packet, &cmd);
	if (is_decided(decision))
		return decision;
	return select_at(ctx, &port, cmd.reuseport_index);
}

SELECT_PROGRAM(choose);
