# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Connections that wait to be accepted while their listener closes: who inherits them, and whether it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.campaign import connections, probes
from harness.campaign.hashes import SILENT
from harness.model.life.listeners import heirs
from harness.model.outcome import ReplyKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.campaign.hashes import Hashes
    from harness.campaign.puppets import Puppets
    from harness.model.layout import Family
    from harness.model.life.datagram import Datagram
    from harness.model.life.state import Socket, World
    from harness.wire.veth import Wire


class Waiting:
    """A connection for each probe, which nobody accepts until `differs` looks who holds it."""

    def __init__(self, wire: Wire, world: World, hashes: Hashes, leaving: Socket) -> None:
        assert leaving.group is not None, "every listener of a history has SO_REUSEPORT"
        self._wire, self._leaving, self._group = wire, leaving.number, leaving.group
        planned = probes.plan(world).by_number.values()
        at = {probe: {_or_nobody(number) for number in hashes.possible(world, probe)} for probe in planned}
        # Those alone that surely wait at that listener, if there are any: then an heir holds none that was its own.
        sure = {probe: where for probe, where in at.items() if where == {leaving.number}}
        self._at = sure or {probe: where for probe, where in at.items() if leaving.number in where}
        self._probes = probes.only(self._at, world.port, probes.given_by_probes(world))
        for probe in self._at:
            hashes.possible(world, probe, counted=True)
        # The ACK of fast open comes once the listener is closed: the connection migrates in TCP_SYN_RECV.
        self._again = world.cookies
        self._replies = connections.send_syns(wire, self._probes)
        self._later = self._replies.data_taken
        if world.cookies and leaving.group is not None:
            leaving.group.sent_cookie = True
        connections.send_acks(wire, self._replies, but=self._later, again=self._again)

    def differs(self, world: World, puppets: Puppets) -> str:
        """Once the listener has closed in the model and on the kernel: say what is wrong, or nothing."""
        reset = {
            self._probes.by_port[reply.address, reply.port]
            for reply in self._wire.send(())
            if reply.kind is ReplyKind.RESET
        }
        left: set[int | None] = {heir.number for heir in heirs(world, self._group)} or {None}
        if None not in left and self._later:
            connections.send_acks(self._wire, self._replies, but=self._replies.syn_acks.keys() - self._later)
        told, untold = puppets.accepted(), puppets.accepted_unasked()
        sure: dict[Datagram, bool] = {}
        for probe, at in self._at.items():
            key = probe.family, probe.source_port
            holders = told.get(key, []) + untold.get(key, [])
            holder = holders[0] if holders else None
            expected = (at - {self._leaving}) | (left if self._leaving in at else set())
            if len(holders) > 1 or holder not in expected:
                return (
                    f"{probe} that waited is held by {holders or 'nobody'}, not by one of {sorted(map(str, expected))}"
                )
            if at == {self._leaving} and (holder is None) != (probe in reset):
                return f"{words(probe)} that waited is {'' if probe in reset else 'not '}reset"
            if key in untold and not (world.behaviour.sleeps_through_migration and self._leaving in at):
                return f"socket {holder} inherits {words(probe)} and is not woken"
            sure[probe] = at == {self._leaving} and holder is not None
            if probe in self._later and holder is not None and None not in left:
                self._count_down(world, world.sockets[holder], is_inherited=sure[probe])
        return self._told_for_nothing(world, told, sure) if world.behaviour.sleeps_through_migration else ""

    @staticmethod
    def _count_down(world: World, holder: Socket, *, is_inherited: bool) -> None:
        """`reqsk_fastopen_remove`: the listener that holds a fast-open connection gets its ACK.

        With K30 an heir counts the connection down, which it had not counted. Where it is not known whether the holder
        inherited the connection, its count is not known from here on.
        """
        world.taken["reqsk_fastopen_remove: of another listener"] += is_inherited
        if world.behaviour.counts_fast_open_down_at_heir:
            holder.pending -= is_inherited
            holder.pending_is_known &= is_inherited

    @staticmethod
    def _told_for_nothing(
        world: World, told: Mapping[tuple[Family, int], list[int]], sure: dict[Datagram, bool]
    ) -> str:
        """K14: say which socket was woken though all that it holds was inherited."""
        own = {
            number
            for probe, is_inherited in sure.items()
            if not is_inherited
            for number in told.get((probe.family, probe.source_port), [])
        }
        for probe, is_inherited in sure.items():
            for number in told.get((probe.family, probe.source_port), []) if is_inherited else []:
                if number not in own and number in world.sockets:
                    return f"socket {number} inherits {words(probe)} and is woken"
        return ""


def _or_nobody(number: int | None) -> int | None:
    """Return nobody in the place of a listener that drops the SYN."""
    return None if number == SILENT else number


def words(probe: Datagram) -> str:
    """Return a connection in words."""
    return f"a connection over {probe.family} from port {probe.source_port} for index {probe.index}"
