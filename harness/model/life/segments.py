# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The steps of a history of TCP between a connection's SYN and its ACK, and what is set for all of TCP. Pure.

What a segment leads to is in `World.seen`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.model.abi import BY_HASH, REFUSE
from harness.model.layout import Family, Protocol
from harness.model.life import requests, slots
from harness.model.life.fast_open import Given
from harness.model.life.state import HEIRS, Keys
from harness.model.life.steps import OnSocket, Step
from harness.model.uapi import BPF_ANY

if TYPE_CHECKING:
    from harness.model.life.datagram import Datagram
    from harness.model.life.state import Seen, Socket, World

ASKED = (0, 1)
"""The indices that SYNs ask for whose ACK comes later: those for which a probe is always sent."""


@dataclass(frozen=True)
class Segment(Step):
    """A step that sends one segment."""

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        packet = self.packet(world)
        if packet is None:
            return None
        world.seen = self.send(world, packet)
        return 0

    def packet(self, world: World) -> Datagram | None:
        """Return the SYN that the segment is, or belongs to; None: it has no meaning here."""
        raise NotImplementedError

    def send(self, world: World, packet: Datagram) -> Seen:
        """Send it in the model."""
        raise NotImplementedError


@dataclass(frozen=True)
class Ask(Segment):
    """A SYN, whose ACK is still to come."""

    family: Family = Family.IPV4
    index: int = ASKED[0]

    def packet(self, world: World) -> Datagram | None:
        """Return the SYN, if it is the first of its kind."""
        packet = requests.stranger(self.family, self.index)
        asks = world.protocol is Protocol.TCP and world.sockets and packet not in world.requests
        return packet if asks else None

    def send(self, world: World, packet: Datagram) -> Seen:
        """Send it in the model."""
        return requests.syn(world, packet)


@dataclass(frozen=True)
class AskFast(Ask):
    """A SYN with a fast-open option: a request for a cookie, or a cookie."""

    given: Given = Given.RIGHT

    def send(self, world: World, packet: Datagram) -> Seen:
        """Send it in the model."""
        return requests.syn(world, packet, self.given)


@dataclass(frozen=True)
class OfRequest(Segment):
    """A segment of a connection whose ACK is still to come: of the oldest, or of one so many behind it."""

    behind: int = 0

    def packet(self, world: World) -> Datagram | None:
        """Return the SYN, if there is one."""
        waiting = list(world.requests)
        return waiting[self.behind % len(waiting)] if waiting else None


@dataclass(frozen=True)
class Answer(OfRequest):
    """The ACK, with data that name the index again."""

    def send(self, world: World, packet: Datagram) -> Seen:
        """Send it in the model."""
        return requests.ack(world, packet)


@dataclass(frozen=True)
class Abort(OfRequest):
    """A reset, with the same data, instead of the ACK."""

    def packet(self, world: World) -> Datagram | None:
        """Return the SYN, if there is one and it is known what a reset comes to."""
        packet = super().packet(world)
        return None if packet is None or not requests.can_reset(world, packet) else packet

    def send(self, world: World, packet: Datagram) -> Seen:
        """Send it in the model."""
        return requests.reset(world, packet)


@dataclass(frozen=True)
class Cookies(Step):
    """net.ipv4.tcp_syncookies: 2 to answer every SYN with a cookie, 0 to answer none so."""

    on: bool = True

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        if world.protocol is not Protocol.TCP or world.cookies == self.on:
            return None
        world.cookies = self.on
        return 0


@dataclass(frozen=True)
class Migrate(Step):
    """net.ipv4.tcp_migrate_req, where there is such: whether connections migrate."""

    on: bool = False

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        if not world.can_migrate or world.migrates == self.on:
            return None
        world.migrates = self.on
        return 0


@dataclass(frozen=True)
class Refuse(Step):
    """Whether the program that is asked who inherits connections refuses (SK_DROP): then nobody does."""

    on: bool = True

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        names = REFUSE if self.on else BY_HASH
        if not world.has_migrate or world.names == names:
            return None
        world.names = names
        return 0


@dataclass(frozen=True)
class Name(Step):
    """The slot of its sockarray that the program names when it is asked who inherits connections."""

    slot: int = 0

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        if not world.has_migrate or world.names == self.slot:
            return None
        world.names = self.slot
        return 0


@dataclass(frozen=True)
class FillHeir(OnSocket):
    """Put the listener into a slot of the sockarray of the program that is asked who inherits connections."""

    slot: int = 0
    flags: int = BPF_ANY

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        if not world.has_migrate:
            return None
        answer = slots.update(world, self.slot, made, self.flags, array=HEIRS)
        if not answer:
            world.taken["reuseport_array_update: an heir"] += 1
        return answer


@dataclass(frozen=True)
class EmptyHeir(Step):
    """Empty a slot of that sockarray."""

    slot: int = 0

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        return slots.delete(world, self.slot, array=HEIRS) if world.has_migrate else None


@dataclass(frozen=True)
class FastOpen(OnSocket):
    """TCP_FASTOPEN of a listener: whether it takes data in a SYN."""

    on: bool = True

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        if world.protocol is not Protocol.TCP:
            return None
        made.fast_open = requests.BACKLOG if self.on else 0
        return 0


@dataclass(frozen=True)
class FastOpenLimit(OnSocket):
    """TCP_FASTOPEN of a listener: how many connections may be open so before their ACK."""

    limit: int = 1

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        if world.protocol is not Protocol.TCP:
            return None
        made.fast_open = self.limit
        return 0


@dataclass(frozen=True)
class FastOpenKeys(OnSocket):
    """TCP_FASTOPEN_KEY of a listener: the keys of its cookies."""

    keys: Keys = Keys.SECOND

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        if world.protocol is not Protocol.TCP:
            return None
        made.keys = self.keys
        return 0


@dataclass(frozen=True)
class NeedCookie(Step):
    """net.ipv4.tcp_fastopen: whether data in a SYN is taken with a cookie alone."""

    on: bool = True

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        if world.protocol is not Protocol.TCP or world.needs_cookie == self.on:
            return None
        world.needs_cookie = self.on
        return 0
