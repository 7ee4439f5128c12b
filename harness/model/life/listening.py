# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which listener a SYN finds: net/ipv4/inet_hashtables.c `__inet_lookup_listener` and its IPv6 twin. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.model.layout import Family, Protocol
from harness.model.life.lookup import Dropped, Lookup
from harness.model.life.state import THIS_CPU

if TYPE_CHECKING:
    from harness.model.life.datagram import Datagram
    from harness.model.life.state import Socket, World


class ListenerLookup(Lookup):
    """One lookup of a listener. A listener has no peer, so there is nothing to find before its address."""

    __slots__ = ()

    def _found(self) -> Socket | Dropped | None:
        return self._by_address()

    def _best(self, chain: list[Socket]) -> Socket | Dropped | None:
        """`inet_lhash2_lookup`: the first group that fits has the SYN; without K24 the one that fits best."""
        if not self._world.behaviour.first_group_wins:
            chain = sorted(chain, key=self._score, reverse=True)
        for socket in chain:
            if self._score(socket) > 0:
                return self._by_group(socket) or socket
        return None

    def _score(self, socket: Socket) -> int:
        """Do as `compute_score` of inet_hashtables.c and inet6_hashtables.c does: -1 if it cannot have the SYN."""
        score = 2 if socket.device else 1
        if self._packet.family is Family.IPV4:
            if socket.family is Family.IPV4:
                score += 1
            elif socket.v6only:
                return -1
        elif socket.family is Family.IPV4:
            return -1
        return score + (socket.cpu == THIS_CPU)


def lookup(world: World, packet: Datagram, hashes: tuple[int, int]) -> Lookup:
    """Return the lookup of a packet of the world's protocol."""
    return (Lookup if world.protocol is Protocol.UDP else ListenerLookup)(world, packet, hashes)
