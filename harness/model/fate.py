# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How far a malformed packet gets in the kernel. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from harness.model.layout import Family, Protocol
from harness.model.malformed import CHECKSUM_BREAK, Checksum
from harness.model.packets import TRANSPORT_HEADER

if TYPE_CHECKING:
    from harness.model.packets import Packet

_VLAN_ID = 0x0FFF  # include/uapi/linux/if_vlan.h: VLAN_VID_MASK


class Fate(StrEnum):
    """How far a packet gets."""

    USUAL = "usual"
    LOST_BEFORE = "lost before the program runs"
    LOST_AFTER = "lost after the program ran"


def fate(packet: Packet) -> Fate:
    """Return how far a packet gets (`__udp4_lib_rcv`, `__udp6_lib_rcv`, `tcp_v4_rcv`, `skb_vlan_untag`)."""
    malformation = packet.malformation
    if malformation is None:
        return Fate.USUAL
    # Tag 0 is only a priority; any other belongs to a VLAN device, and there is none.
    if any(vlan & _VLAN_ID for vlan in malformation.vlans):
        return Fate.LOST_BEFORE
    stated = malformation.stated_length
    if stated is not None and not TRANSPORT_HEADER[Protocol.UDP] <= stated <= packet.full_length:
        # IPv6 takes a length of zero as "see the network header" (jumbograms, RFC 2675).
        jumbogram = packet.family is Family.IPV6 and stated == 0
        return Fate.USUAL if jumbogram else Fate.LOST_BEFORE
    if malformation.checksum is Checksum.WRONG:
        return Fate.LOST_BEFORE if packet.transport_length <= CHECKSUM_BREAK else Fate.LOST_AFTER
    if malformation.checksum is Checksum.ABSENT and packet.family is Family.IPV6:
        # udp6_csum_zero_error(): only the socket knows whether it takes such packets.
        return Fate.LOST_AFTER
    return Fate.USUAL
