# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What IPv6 does with a packet for this host: net/ipv6/ip6_input.c and reassembly.c. Pure."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from harness.model.layout import Family
from harness.model.reception import extensions, fragments
from harness.model.reception.extensions import Verdict
from harness.model.reception.state import LOST, Arrived
from harness.model.uapi import (
    ICMPV6_HDR_FIELD,
    ICMPV6_HDR_INCOMP,
    ICMPV6_PARAMPROB,
    ICMPV6_UNK_NEXTHDR,
    ICMPV6_UNK_OPTION,
)

if TYPE_CHECKING:
    from harness.model.reception.state import Came, Reception

_HEADER = 40
_FRAGMENT_HEADER = 8
_MORE, _OFFSET = 1, 0xFFF8
_LONGEST = 65535
_NEEDED = {socket.IPPROTO_TCP: 20, socket.IPPROTO_UDP: 8}


def receive(state: Reception, data: bytes) -> Came:
    """`ip6_rcv_core`: check the header, cut off what is behind the packet, and look at hop-by-hop options."""
    if len(data) < _HEADER:
        return state.lose("ip6_rcv_core: too short")
    if data[0] >> 4 != 6:
        return state.lose("ip6_rcv_core: version")
    length = int.from_bytes(data[4:6], "big")
    following = data[6]
    if length or following != socket.IPPROTO_HOPOPTS:  # with a jumbo payload the length is zero
        if length + _HEADER > len(data):
            return state.lose("ip6_rcv_core: length")
        data = data[: length + _HEADER]
    state.taken["ip6_rcv_core"] += 1
    at = _HEADER
    if following == socket.IPPROTO_HOPOPTS:
        verdict, size = extensions.options(data, at, hop_by_hop=True)
        if verdict is not Verdict.GOOD:
            return _of_options(state, "ipv6_parse_hopopts", verdict, data)
        state.taken["ipv6_parse_hopopts"] += 1
        following, at = data[at], at + size
    return _Chain(state, data, at, following).deliver()


def _of_options(state: Reception, function: str, verdict: Verdict, data: bytes) -> Came:
    if verdict is Verdict.UNKNOWN:
        return state.refuse(f"{function}: unknown option", data[8:24], ICMPV6_PARAMPROB, ICMPV6_UNK_OPTION)
    return state.lose(f"{function}: {verdict.value}")


class _Chain:
    """`ip6_protocol_deliver_rcu`: one header after the other, until one is the transport's."""

    def __init__(self, state: Reception, data: bytes, at: int, following: int) -> None:
        self._state, self._data, self._at, self._following = state, data, at, following
        self._had_fragment = False
        self._whole = True

    def deliver(self) -> Came:
        """Go on until the packet is somewhere."""
        while True:
            if self._at > len(self._data):
                return self._state.lose("ip6_protocol_deliver_rcu: too short")
            kind = self._following
            if kind in {socket.IPPROTO_UDP, socket.IPPROTO_TCP}:
                self._state.taken["ip6_protocol_deliver_rcu"] += 1
                return Arrived(
                    family=Family.IPV6,
                    source=self._data[8:24],
                    destination=self._data[24:40],
                    protocol=kind,
                    data=self._data[self._at :],
                    whole=self._whole,
                )
            came = self._step(kind)
            if came is not None:
                return came

    def _step(self, kind: int) -> Came | None:
        if kind == socket.IPPROTO_DSTOPTS:
            verdict, size = extensions.options(self._data, self._at, hop_by_hop=False)
            if verdict is not Verdict.GOOD:
                return _of_options(self._state, "ipv6_destopt_rcv", verdict, self._data)
            return self._go_on("ipv6_destopt_rcv", size)
        if kind == socket.IPPROTO_ROUTING:
            return self._routing()
        if kind == socket.IPPROTO_FRAGMENT:
            return self._fragment()
        if kind == socket.IPPROTO_NONE:
            return self._state.lose("dst_discard: no next header")
        return self._refuse("ip6_protocol_deliver_rcu: unknown header", ICMPV6_UNK_NEXTHDR)

    def _go_on(self, function: str, size: int) -> Came | None:
        self._state.taken[function] += 1
        self._following, self._at = self._data[self._at], self._at + size
        return None

    def _refuse(self, way: str, code: int) -> Came:
        return self._state.refuse(way, self._data[8:24], ICMPV6_PARAMPROB, code)

    def _routing(self) -> Came | None:
        """`ipv6_rthdr_rcv`: a route at its end is passed over; no other is accepted."""
        size = extensions.size(self._data, self._at)
        if size is None:
            return self._state.lose("ipv6_rthdr_rcv: too short")
        if self._data[self._at + 3]:
            return self._refuse("ipv6_rthdr_rcv: segments left", ICMPV6_HDR_FIELD)
        return self._go_on("ipv6_rthdr_rcv", size)

    def _fragment(self) -> Came | None:
        """`ipv6_frag_rcv`, `ip6_frag_queue`."""
        data, at = self._data, self._at
        length = int.from_bytes(data[4:6], "big")
        if self._had_fragment or not length or len(data) < at + _FRAGMENT_HEADER:
            return self._refuse("ipv6_frag_rcv: bad header", ICMPV6_HDR_FIELD)
        field = int.from_bytes(data[at + 2 : at + 4], "big")
        if not field & (_OFFSET | _MORE):
            self._had_fragment = True
            return self._go_on("ipv6_frag_rcv: of one", _FRAGMENT_HEADER)
        body, start, more = data[at + _FRAGMENT_HEADER :], field & _OFFSET, bool(field & _MORE)
        if start == 0 and extensions.is_truncated(body, data[at], _NEEDED):
            return self._refuse("ipv6_frag_rcv: the first lacks headers", ICMPV6_HDR_INCOMP)
        if start + len(body) > _LONGEST or (more and len(body) % 8):
            return self._refuse("ip6_frag_queue: bad length", ICMPV6_HDR_FIELD)
        key = (data[8:24], data[24:40], data[at + 4 : at + 8])
        header = data[:at] + data[at : at + 1]
        made = fragments.collect(self._state, key, start, body, more=more, header=header)
        if made is None:
            return LOST
        header, body = made
        payload = len(header) - 1 - _HEADER + len(body)
        self._data = header[:4] + payload.to_bytes(2, "big") + header[6:-1] + body
        self._at, self._following = len(header) - 1, header[-1]
        self._had_fragment, self._whole = True, False
        return None
