// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A socket filter returns a place in the group, here from the payload: its data starts behind the transport header. */
#include "result.h"

SEC("socket")
int filter_member(struct __sk_buff *skb)
{
	__u32 result = PASS, *count, place;

	if (bpf_skb_load_bytes(skb, 0, &place, sizeof(place))) {
		result = PASS_ERR_SK_SELECT_REUSEPORT;
		place = 0xffffffff; /* in no group: the kernel's hash decides */
	}
	count = bpf_map_lookup_elem(&result_map, &result);
	if (count)
		__sync_fetch_and_add(count, 1);
	return place;
}
