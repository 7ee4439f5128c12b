# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which socket a datagram finds: net/ipv4/udp.c `__udp4_lib_lookup`, net/ipv6/udp.c `__udp6_lib_lookup`. Pure.

The kernel's hash of a four-tuple is keyed at boot, hence an input; `Lookup.sizes` tells for which sizes of groups it
mattered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.model.abi import Result
from harness.model.expect import reciprocal_scale
from harness.model.layout import Family, Protocol
from harness.model.life.state import HEIRS, THIS_CPU, Program, State

if TYPE_CHECKING:
    from harness.model.life.datagram import Datagram
    from harness.model.life.state import Group, Socket, World


class Dropped:
    """The program dropped the packet: no socket has it, and no other is looked for."""


DROPPED = Dropped()


class Lookup:
    """One lookup, and what it does on its way.

    `hashes` are the kernel's hashes of the four-tuple: with the wildcard as destination, and with the server's address.
    """

    __slots__ = ("_hashes", "_packet", "_world", "results", "sizes", "specific")

    def __init__(self, world: World, packet: Datagram, hashes: tuple[int, int]) -> None:
        self._world, self._packet, self._hashes = world, packet, hashes
        self.specific = False
        """Whether the sockets on the server's address decided, and so the second hash."""
        self.sizes: tuple[int, ...] = ()
        """The sizes of the groups among which the hash decided."""
        self.results: tuple[Result, ...] = ()
        """What programs counted."""

    def receiver(self) -> Socket | None:
        """Return the socket that gets the datagram; None: it is answered with an ICMP error."""
        found = self._found()
        return None if isinstance(found, Dropped) else found

    def _found(self) -> Socket | Dropped | None:
        return self._early() or self._by_four_tuple() or self._by_address()

    def _early(self) -> Socket | None:
        """`udp_v4_early_demux`: the first socket of the address's chain, if it is connected to the sender."""
        chain = self._world.bucket(self._packet.family, specific=True)
        if chain and self._matches(chain[0]):
            self._world.taken["udp_early_demux"] += 1
            return chain[0]
        return None

    def _by_four_tuple(self) -> Socket | None:
        """Do as `udp4_lib_lookup4`, `udp6_lib_lookup4` does."""
        for socket in self._world.connected:
            if socket.filed_under == (True, self._packet.source_port) and self._matches(socket):
                self._world.taken["udp_lib_lookup4"] += 1
                return socket
        return None

    def _matches(self, socket: Socket) -> bool:
        """Do as `inet_match`, `inet6_match` does."""
        return (
            self._packet.from_peer
            and socket.peer == self._packet.source_port
            and socket.family is self._packet.family
            and socket.specific
        )

    def _by_address(self) -> Socket | Dropped | None:
        """`__udp4_lib_lookup`: the sockets on the address, and if none fits those on the wildcard."""
        for specific in (True, False):
            chain = self._world.bucket(self._packet.family, specific=specific)
            self.specific = specific
            if chain and (found := self._best(chain)) is not None:
                return found
        return None

    def _best(self, chain: list[Socket]) -> Socket | Dropped | None:
        """`udp4_lib_lookup2`, `udp6_lib_lookup2`: the first group that fits has the packet, unless it has connections.

        Without K24 the group whose member fits best has it.
        """
        if not self._world.behaviour.first_group_wins:
            chain = sorted(chain, key=self._score, reverse=True)
        result: Socket | Dropped | None = None
        best = 0 if self._packet.family is Family.IPV4 else -1
        for socket in chain:
            score = self._score(socket)
            if score <= best:
                continue
            best = score
            if socket.state is State.ESTABLISHED:
                result = socket
                continue
            result = self._by_group(socket)
            if result is None:
                result = socket
                continue
            assert socket.group is not None
            if not socket.group.has_conns:
                return result
            if isinstance(result, Dropped):
                continue
            self._world.taken["udp_lib_lookup2: scored again"] += 1
            best = max(best, self._score(result))
        return result

    def _score(self, socket: Socket) -> int:
        """`compute_score` of either family: -1 if the socket cannot have the packet."""
        if socket.peer is not None and socket.peer != self._packet.source_port:
            return -1
        if self._packet.family is Family.IPV4:
            if socket.family is Family.IPV6 and socket.v6only:
                return -1
            step, score = 4, 2 if socket.family is Family.IPV4 else 1
        elif socket.family is Family.IPV4:
            return -1
        else:
            step, score = 1, 0
        if socket.peer is not None:
            score += step  # the peer's port
        if socket.knows_address and socket.family is self._packet.family:  # an IPv6 socket has one for each family
            if not self._packet.from_peer:
                return -1
            score += step
        if socket.device:
            score += step
        return score + (socket.cpu == THIS_CPU)

    def _by_group(self, socket: Socket) -> Socket | Dropped | None:
        """`inet_lookup_reuseport`, `reuseport_select_sock`: None if the socket is in no group."""
        group = socket.group
        if group is None or not socket.reuseport or not group.members:
            return None
        found = self._by_program(group)
        return self._by_hash(group) if found is None else found

    def _by_program(self, group: Group) -> Socket | Dropped | None:
        """`run_bpf_filter` or `bpf_run_sk_reuseport`: None leaves it to the hash."""
        index, taken = self._packet.index, self._world.taken
        if group.program is None:
            return None
        if group.program is Program.PLACE:
            self.results += (Result.PASS,)
            chosen = group.members[index] if index < len(group.members) else None
            taken["run_bpf_filter" + ("" if chosen else ": no such place")] += 1
            return chosen
        if group.program is Program.DROP:
            taken["bpf_run_sk_reuseport: SK_DROP"] += 1
            return DROPPED
        if group.program is Program.MAP:
            return self._from_slots(self._world.sockmap, group)
        if group.program is Program.HASH:
            taken["sock_hash_lookup" + ("" if index in self._world.sockhash else ": nothing there")] += 1
            return self._from_slots(self._world.sockhash, group)
        if group.program is Program.MIGRATE:
            return self._from_slots(self._world.sockarrays[HEIRS], group)
        if not self._world.inner_is_there:
            taken["array_of_map_lookup_elem: nothing there"] += 1
            self.results += (Result.DROP_ERR_INNER_MAP,)
            return DROPPED
        return self._from_slots(self._world.slots, group)

    def _from_slots(self, slots: dict[int, Socket], group: Group) -> Socket | Dropped:
        """`sk_select_reuseport`: what the slot holds, if it is a member of the group."""
        held, taken = slots.get(self._packet.index), self._world.taken
        if held is None or held.group is not group or self._is_not_to_be_selected(held):
            # -ENOENT, -EBADFD, -EPROTOTYPE, -EAFNOSUPPORT, -EINVAL of one in no group: the program drops
            taken["sk_select_reuseport: " + _what_is_not_selected(held)] += 1
            self.results += (Result.DROP_ERR_SK_SELECT_REUSEPORT,)
            return DROPPED
        taken["sk_select_reuseport"] += 1
        self.results += (Result.PASS,)
        return held

    def _is_not_to_be_selected(self, held: Socket) -> bool:
        """Return whether a socket is a listener that was shut down, which sockmap and sockhash alone still have."""
        shut = held.protocol is Protocol.TCP and held.state is State.CLOSE
        return shut and not self._world.behaviour.selects_what_is_shut_down

    def _by_hash(self, group: Group) -> Socket | None:
        """`reuseport_select_sock_by_hash`: the first from the hash's place on that is not connected."""
        members = group.members
        size = len(members)
        if size > 1:
            self.sizes += (size,)
        wanted = group.incoming_cpu and not self._world.behaviour.cpu_in_score_only
        start, first = reciprocal_scale(self._hashes[self.specific], size), None
        for place in range(start, start + size):
            socket = members[place % size]
            if socket.state is State.ESTABLISHED:
                continue
            if not wanted or socket.cpu == THIS_CPU:
                self._world.taken["reuseport_select_sock_by_hash" + (": of this CPU" if wanted else "")] += 1
                return socket
            first = first or socket
        self._world.taken["reuseport_select_sock_by_hash: " + ("no CPU" if first else "all connected")] += 1
        return first


def _what_is_not_selected(held: Socket | None) -> str:
    if held is None:
        return "empty"
    is_connection = held.protocol is Protocol.TCP and held.state is State.ESTABLISHED
    return "a connection" if is_connection else "another group"
