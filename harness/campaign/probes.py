# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The datagrams that show, after each step of a history, which socket every kind of packet finds."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from harness.model.layout import Family, Protocol
from harness.model.life import fast_open
from harness.model.life.datagram import Datagram
from harness.model.life.fast_open import Given
from harness.model.life.requests import stranger
from harness.model.life.slots import SLOTS
from harness.model.life.state import HISTORY_PORT, Program
from harness.model.life.steps import PEERS
from harness.model.outcome import ReplyKind
from harness.model.packets import Packet
from harness.wire import frames
from harness.wire.options import FAST_OPEN, syn_with_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.model.life.state import World
    from harness.wire.veth import Wire

_ANOTHER_HOST = {Family.IPV4: "198.51.100.9", Family.IPV6: "2001:db8:1::9"}
"""A host that no socket connects to. It is behind the route: nothing answers for it on the wire."""

_MOST_PLACES = 9
_ABOVE_THE_FIRST_ROOM = (127, 128, 139)
_PAYLOAD = struct.Struct("=III")
"""The index twice as programs read it (a place, or a command and its flag), and the probe's number."""


_numbers: dict[Datagram, int] = {}


def _number(probe: Datagram) -> int:
    return _numbers.setdefault(probe, len(_numbers))


@cache
def packet_of(probe: Datagram, protocol: Protocol = Protocol.TCP, port: int = HISTORY_PORT) -> Packet:
    """Return the packet that a probe is, to a port: a datagram, or what opens a connection."""
    return Packet(
        protocol=protocol,
        family=probe.family,
        source_address=_source(probe),
        source_port=probe.source_port,
        destination_port=port,
        payload=payload(probe.index, _number(probe)),
    )


@cache
def frame(probe: Datagram, protocol: Protocol, port: int = HISTORY_PORT, given: Given = Given.NOTHING) -> bytes:
    """Return the frame of a probe to a port; what a SYN says of fast open is `given`."""
    packet, option = packet_of(probe, protocol, port), fast_open.option(probe.family, given)
    (made,) = frames.opening(packet) if option is None else syn_with_option(packet, FAST_OPEN, option)
    return made


def given_by_probes(world: World) -> Given:
    """Return what probes say of fast open: they have a cookie where one is needed."""
    return Given.RIGHT if world.needs_cookie else Given.NOTHING


@cache
def _peer(family: Family, port: int) -> Datagram:
    return Datagram(family, port, 0)


@cache
def _elsewhere(family: Family) -> Datagram:
    return Datagram(family, PEERS[0], 0, from_peer=False)


def _source(probe: Datagram) -> str:
    return probe.family.peer if probe.from_peer else _ANOTHER_HOST[probe.family]


def plan(world: World) -> Probes:
    """Return the probes that show what there is to see of the sockets as they are, IPv4's before IPv6's."""
    indices = 2
    groups = {id(made.group): made.group for made in world.sockets.values() if made.group is not None}
    more: tuple[int, ...] = ()
    for group in groups.values():
        if group.program is Program.PLACE:
            indices = max(indices, min(len(group.members) + 1, _MOST_PLACES))
            if len(group.members) > _MOST_PLACES:
                more = _ABOVE_THE_FIRST_ROOM
        elif group.program in (Program.SLOT, Program.MAP, Program.HASH, Program.MIGRATE):
            indices = SLOTS
    families = {made.family for made in world.sockets.values()}
    if not families:
        return _NOTHING
    # IPv6 sockets on the wildcard get IPv4 packets too, where no IPv4 socket is
    given = given_by_probes(world)
    made = _probes(world.protocol, world.port, Family.IPV6 in families, indices, more, given)
    waiting = {packet for packet, request in world.requests.items() if request.listener is not None}
    if not waiting:
        return made
    return only((probe for probe in made.by_number.values() if probe not in waiting), world.port, given)


@cache
def _probes(protocol: Protocol, port: int, both: bool, indices: int, more: tuple[int, ...], given: Given) -> Probes:
    made = []
    for family in Family if both else (Family.IPV4,):
        each = [stranger(family, index) for index in (*range(indices), *more)]
        if protocol is Protocol.UDP:
            each += [*(_peer(family, port) for port in PEERS), _elsewhere(family)]
        made.append(tuple(each))
    return Probes(
        port=port,
        batches=tuple(tuple(frame(probe, protocol, port, given) for probe in batch) for batch in made),
        by_number={_number(probe): probe for batch in made for probe in batch},
        by_port={(_source(probe), probe.source_port): probe for batch in made for probe in batch},
    )


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Probes that are sent together."""

    port: int = HISTORY_PORT
    """The port that they are sent to."""
    batches: tuple[tuple[bytes, ...], ...]
    """Their frames, those of one length together."""
    by_number: dict[int, Datagram]
    """In the order in which they are sent."""
    by_port: dict[tuple[str, int], Datagram]
    """By the sender's address and port."""


def only(chosen: Iterable[Datagram], port: int, given: Given) -> Probes:
    """Return TCP's probes of that choice, to a port; what they say of fast open is `given`."""
    each = tuple(chosen)
    return Probes(
        port=port,
        batches=tuple((frame(probe, Protocol.TCP, port, given),) for probe in each),
        by_number={_number(probe): probe for probe in each},
        by_port={(_source(probe), probe.source_port): probe for probe in each},
    )


_NOTHING = Probes(batches=(), by_number={}, by_port={})


def send(wire: Wire, probes: Probes) -> set[Datagram]:
    """Send the probes, which are decided when this returns; return those that were answered by an ICMP error."""
    for batch in probes.batches:
        wire.post_many(batch)
    return {
        probes.by_port[reply.address, reply.port] for reply in wire.send(()) if reply.kind is ReplyKind.PORT_UNREACHABLE
    }


def payload(index: int, number: int) -> bytes:
    """Return the payload of a packet for an index, by whose number it is known."""
    return _PAYLOAD.pack(index, 0, number)


def numbers_of(datagrams: Sequence[bytes]) -> list[int]:
    """Return the numbers of the probes whose payloads these are."""
    return [_PAYLOAD.unpack(data)[2] for data in datagrams]


PAYLOAD_SIZE = _PAYLOAD.size
