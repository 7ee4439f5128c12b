# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What IPv4 does with a packet for this host: net/ipv4/ip_input.c and ip_fragment.c. Pure."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from harness.model.layout import Family
from harness.model.reception import fragments, options
from harness.model.reception.state import LOST, Arrived
from harness.model.reception.sums import is_sound
from harness.model.uapi import ICMP_DEST_UNREACH, ICMP_PARAMETERPROB, ICMP_PROT_UNREACH

if TYPE_CHECKING:
    from harness.model.reception.state import Came, Reception

_SHORTEST = 20
_MORE, _OFFSET = 0x2000, 0x1FFF  # IP_MF, IP_OFFSET


def receive(state: Reception, data: bytes) -> Came:
    """`ip_rcv_core`: check the header, and cut off what is behind the packet."""
    if len(data) < _SHORTEST:
        return state.lose("ip_rcv_core: too short")
    header = (data[0] & 15) * 4
    if data[0] >> 4 != 4 or header < _SHORTEST or len(data) < header:
        return state.lose("ip_rcv_core: version or header length")
    if not is_sound(data[:header]):
        return state.lose("ip_rcv_core: checksum")
    length = int.from_bytes(data[2:4], "big")
    if length > len(data) or length < header:
        return state.lose("ip_rcv_core: length")
    state.taken["ip_rcv_core"] += 1
    return _finish(state, data[:header], data[header:length])


def _finish(state: Reception, header: bytes, data: bytes) -> Came:
    """`ip_rcv_finish_core`, `ip_local_deliver`: options, then fragments."""
    source = header[12:16]
    field = int.from_bytes(header[6:8], "big")
    if len(header) > _SHORTEST:
        verdict = options.parse(header)
        if verdict is options.Verdict.BAD:
            if field & _OFFSET:  # icmp_send: only a first fragment is answered
                return state.lose("ip_options_compile: bad, in a later fragment")
            return state.refuse("ip_options_compile: bad", source, ICMP_PARAMETERPROB, 0)
        if verdict is options.Verdict.SOURCE_ROUTE:
            return state.lose("ip_rcv_options: source route")
        state.taken["ip_rcv_options"] += 1
    whole = not field & (_MORE | _OFFSET)
    if not whole:
        more = bool(field & _MORE)
        if more:
            data = data[: len(data) & ~7]
        key = (source, header[16:20], header[4:6], header[9])
        made = fragments.collect(state, key, (field & _OFFSET) * 8, data, more=more, header=header)
        if made is None:
            return LOST
        header, data = made
    return _deliver(state, header, data, whole=whole)


def _deliver(state: Reception, header: bytes, data: bytes, *, whole: bool) -> Came:
    """`ip_protocol_deliver_rcu`: hand the data to the protocol that the header names."""
    protocol = header[9]
    if protocol not in {socket.IPPROTO_UDP, socket.IPPROTO_TCP}:
        return state.refuse(
            "ip_protocol_deliver_rcu: no such protocol", header[12:16], ICMP_DEST_UNREACH, ICMP_PROT_UNREACH
        )
    state.taken["ip_protocol_deliver_rcu"] += 1
    return Arrived(
        family=Family.IPV4,
        source=header[12:16],
        destination=header[16:20],
        protocol=protocol,
        data=data,
        whole=whole,
    )
