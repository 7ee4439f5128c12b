# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Sockets in slots that no packet to the history's port may reach: kernel/bpf/reuseport_array.c. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.model.layout import Family, Protocol
from harness.model.life import slots
from harness.model.life.state import Group, Socket
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

    @property
    def number(self) -> int:
        """Return its number in a history."""
        return FIRST_NUMBER + list(Kind).index(self)


_MEMBERS = (Kind.ANOTHER_PROTOCOL, Kind.ANOTHER_FAMILY, Kind.ANOTHER_PORT)
"""Those that are in a group, and so fit into a slot."""


@dataclass(frozen=True)
class Foreign(Step):
    """Put a foreign socket into a slot; the one of each kind is opened when it is needed, and stays."""

    kind: Kind = Kind.ANOTHER_PORT
    slot: int = 0
    flags: int = BPF_ANY

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        made = world.foreign.get(self.kind)
        if made is None:
            made = world.foreign[self.kind] = _made(world, self.kind)
        return slots.update(world, self.slot, made, self.flags)


def _made(world: World, kind: Kind) -> Socket:
    other = Protocol.TCP if world.protocol is Protocol.UDP else Protocol.UDP
    made = Socket(
        kind.number,
        other if kind is Kind.ANOTHER_PROTOCOL else world.protocol,
        Family.IPV6 if kind is Kind.ANOTHER_FAMILY else Family.IPV4,
        reuseport=kind is not Kind.ALONE,
        fits=kind is not Kind.LOCAL,
        hashed=kind not in (Kind.NOT_BOUND, Kind.LOCAL),
    )
    if kind in _MEMBERS:
        made.group = Group(bind_inany=True, members=[made])
    return made
