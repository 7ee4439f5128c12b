/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Find the destination connection ID of a QUIC packet (RFC 9000, section 17). A server chooses IDs of 8 bytes. */
#ifndef REUSEPORT_QUIC_H
#define REUSEPORT_QUIC_H

#include "select.h"

#define QUIC_CID_LENGTH 8
#define QUIC_LONG_HEADER 0x80
#define QUIC_FIXED_BIT 0x40
#define QUIC_CHOSEN_BY_SERVER 0x20 /* type Handshake or Retry; not set in Initial and 0-RTT */

struct quic_start {
	__u8 flags;
	__u8 version[4];
	__u8 cid_length;
};

/* Read the connection ID that a server chose. Packets with one that a client chose, or without any, are decided here. */
static __always_inline struct decision read_cid(struct sk_reuseport_md *ctx, const struct packet *packet, __u8 *cid)
{
	__u32 at = packet->payload + 1; /* the short header: flags, then the ID */
	struct quic_start start;

	if (packet->seen.ip_protocol != IPPROTO_UDP)
		return DECIDE(PASS);
	if (at + QUIC_CID_LENGTH > packet->seen.len)
		return DECIDE(DROP_ERR_SKB_DATA);
	if (bpf_skb_load_bytes(ctx, packet->payload, &start, sizeof(start)))
		return DECIDE(DROP_MISC);
	if (!(start.flags & QUIC_FIXED_BIT))
		return DECIDE(DROP_ERR_SKB_DATA);
	if (start.flags & QUIC_LONG_HEADER) {
		if (!(start.flags & QUIC_CHOSEN_BY_SERVER) || start.cid_length != QUIC_CID_LENGTH)
			return DECIDE(PASS);
		at = packet->payload + sizeof(start);
		if (at + QUIC_CID_LENGTH > packet->seen.len)
			return DECIDE(DROP_ERR_SKB_DATA);
	}
	if (bpf_skb_load_bytes(ctx, at, cid, QUIC_CID_LENGTH))
		return DECIDE(DROP_MISC);
	return UNDECIDED;
}

#endif
