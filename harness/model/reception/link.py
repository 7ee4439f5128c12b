# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is before the network header: net/core/dev.c `__netif_receive_skb_core`, net/8021q/vlan_core.c. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.model.layout import Family
from harness.model.reception import ipv4, ipv6
from harness.model.reception.state import LOST
from harness.model.uapi import ETH_P_8021Q

if TYPE_CHECKING:
    from harness.model.reception.state import Came, Reception

_ETHERNET = 14
_TAG = 4
_VLAN_ID = 0x0FFF  # include/uapi/linux/if_vlan.h, VLAN_VID_MASK
_MOST_TAGS = 8  # include/linux/if_vlan.h, VLAN_MAX_DEPTH


def receive(state: Reception, frame: bytes) -> Came:
    """`__netif_receive_skb_core`: strip VLAN tags, and give the packet to IPv4 or IPv6."""
    data = frame[_ETHERNET:]
    protocol = int.from_bytes(frame[12:14], "big")
    tags = 0
    while protocol == ETH_P_8021Q:
        if len(data) < _TAG + 2:
            return state.lose("skb_vlan_untag: too short")
        tags += 1
        if tags > _MOST_TAGS and not state.behaviour.strips_any_tags:
            return state.lose("__netif_receive_skb_core: too many tags")
        if int.from_bytes(data[:2], "big") & _VLAN_ID:
            return state.lose("vlan_do_receive: no such device")
        state.taken["skb_vlan_untag"] += 1
        protocol, data = int.from_bytes(data[2:4], "big"), data[_TAG:]
    if protocol == Family.IPV4.eth_protocol:
        return ipv4.receive(state, data)
    if protocol == Family.IPV6.eth_protocol:
        return ipv6.receive(state, data)
    return LOST
