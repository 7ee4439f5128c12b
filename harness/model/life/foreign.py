# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Sockets in slots that no packet to the history's port may reach: kernel/bpf/reuseport_array.c, sock_map.c. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.model.layout import Family, Protocol
from harness.model.life import slots
from harness.model.life.state import Group, Socket, State
from harness.model.life.steps import Step
from harness.model.uapi import BPF_ANY

if TYPE_CHECKING:
    from harness.model.life.state import World

FIRST_NUMBER = 2000
"""The number of the first such socket in a history; each kind has the next one."""


class Kind(StrEnum):
    """What sets such a socket apart. All but the first and the last are of the history's protocol."""

    ANOTHER_PROTOCOL = "another protocol"
    """In a group on the same port, of the other protocol (-EPROTOTYPE where it is selected)."""
    ANOTHER_FAMILY = "another family"
    """In a group on another port, over IPv6 alone (-EAFNOSUPPORT or -EBADFD)."""
    ANOTHER_PORT = "another port"
    """In a group on another port, over IPv4 (-EBADFD or -EAFNOSUPPORT)."""
    NOT_BOUND = "not bound"
    ALONE = "alone"
    """Bound without SO_REUSEPORT to another port."""
    LOCAL = "local"
    """A socket of AF_UNIX."""
    CONNECTION = "connection"
    """An established connection of TCP, in a group of its own: a sockmap takes it, a sockarray does not (-EINVAL)."""

    @property
    def number(self) -> int:
        """Return its number in a history."""
        return FIRST_NUMBER + list(Kind).index(self)


_MEMBERS = (Kind.ANOTHER_PROTOCOL, Kind.ANOTHER_FAMILY, Kind.ANOTHER_PORT, Kind.CONNECTION)
"""Those that are in a group."""


@dataclass(frozen=True)
class Foreign(Step):
    """Put a foreign socket into a slot; the one of each kind is opened when it is needed, and stays."""

    kind: Kind = Kind.ANOTHER_PORT
    slot: int = 0
    flags: int = BPF_ANY

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        return slots.update(world, self.slot, _there(world, self.kind), self.flags)


@dataclass(frozen=True)
class LinkConnection(Step):
    """Put the established connection into a slot of the sockmap, whatever the slot holds.

    A lookup in the sockmap takes a reference to it, as to nothing else of a history (`sk_is_refcounted`). A kernel with
    K12 keeps what is selected: histories do without it there.
    """

    slot: int = 0

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        if not world.has_sockmap or world.behaviour.keeps_selected_connection:
            return None
        world.taken["sock_map_update_common"] += 1
        world.sockmap[self.slot] = _there(world, Kind.CONNECTION)
        return 0


def _there(world: World, kind: Kind) -> Socket:
    if kind not in world.foreign:
        world.foreign[kind] = _made(world, kind)
    return world.foreign[kind]


def _made(world: World, kind: Kind) -> Socket:
    other = Protocol.TCP if world.protocol is Protocol.UDP else Protocol.UDP
    protocols = {Kind.ANOTHER_PROTOCOL: other, Kind.CONNECTION: Protocol.TCP}
    made = Socket(
        kind.number,
        protocols.get(kind, world.protocol),
        Family.IPV6 if kind is Kind.ANOTHER_FAMILY else Family.IPV4,
        reuseport=kind is not Kind.ALONE,
        fits=kind is not Kind.LOCAL,
        # A connection is hashed, but nothing that a lookup for the port finds: a sockarray asks for SOCK_RCU_FREE.
        hashed=kind not in (Kind.NOT_BOUND, Kind.LOCAL, Kind.CONNECTION),
        state=State.ESTABLISHED if kind is Kind.CONNECTION else State.CLOSE,
    )
    if kind in _MEMBERS:
        made.group = Group(bind_inany=True, members=[made])
    return made
