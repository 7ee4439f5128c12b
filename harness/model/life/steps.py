# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The steps of a history: what a user does to the sockets on one port. Pure.

Sockets are named by the number that a step opens them under. A step that has no meaning where it stands, such as one
for a socket that is not there, does nothing: so any part of a history is a history.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.layout import Family, Protocol
from harness.model.life import groups, listeners, slots, sockets
from harness.model.life.state import Program, Socket, State, World
from harness.model.uapi import BPF_ANY, BPF_EXIST, BPF_NOEXIST

SOCKETS = 6
"""Sockets that a history opens one by one."""

CROWD = 140
"""Sockets that one step opens to make a group grow."""

CROWDED = 1000
"""The number of the first socket of a crowd."""

PEERS = (555, 556)
"""The ports of the peers that sockets connect to."""

FLAGS = (BPF_ANY, BPF_NOEXIST, BPF_EXIST)
OTHER_USER = 1000


@dataclass(frozen=True)
class Step:
    """One step. `apply` does it in the model: the errno, 0 for none, or None for a step that does nothing."""

    def apply(self, world: World) -> int | None:
        """Change the world as the kernel changes."""
        raise NotImplementedError


@dataclass(frozen=True)
class Open(Step):
    """socket(2), options, and bind(2)."""

    socket: int
    family: Family = Family.IPV4
    specific: bool = False
    device: bool = False
    v6only: bool = False
    reuseport: bool = True
    user: int = 0
    bind: bool = True

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        if self.socket in world.sockets:
            return None
        made = Socket(
            self.socket,
            world.protocol,
            self.family,
            self.reuseport,
            v6only=self.v6only and self.family is Family.IPV6,
            device=self.device,
            user=self.user,
        )
        if world.protocol is Protocol.TCP:
            return self._listen(world, made)
        if self.bind and (refused := sockets.bind(world, made, specific=self.specific)):
            return refused
        world.sockets[self.socket] = made
        return 0

    def _listen(self, world: World, made: Socket) -> int | None:
        """Bind a socket of TCP and let it listen; what only UDP's histories do is left out."""
        if not (self.bind and self.reuseport and not self.user):
            return None
        listeners.bind(made, specific=self.specific)
        if refused := listeners.listen(world, made):
            return refused
        world.sockets[self.socket] = made
        return 0


@dataclass(frozen=True)
class OnSocket(Step):
    """A step that needs a socket which is there."""

    socket: int

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        made = world.sockets.get(self.socket)
        return None if made is None else self.act(world, made)

    def act(self, world: World, made: Socket) -> int | None:
        """Do it to that socket."""
        raise NotImplementedError


@dataclass(frozen=True)
class Bind(OnSocket):
    """bind(2) of a socket that was opened without."""

    specific: bool = False

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        return (
            None if made.hashed or world.protocol is Protocol.TCP else sockets.bind(world, made, specific=self.specific)
        )


@dataclass(frozen=True)
class Connect(OnSocket):
    """connect(2) to a port of the peer."""

    peer: int = PEERS[0]

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        return sockets.connect(world, made, self.peer) if _is_bound(world, made) else None


@dataclass(frozen=True)
class Disconnect(OnSocket):
    """connect(2) to AF_UNSPEC."""

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        return sockets.disconnect(world, made) if _is_bound(world, made) else None


def _is_bound(world: World, made: Socket) -> bool:
    return made.hashed and world.protocol is Protocol.UDP


@dataclass(frozen=True)
class Close(OnSocket):
    """close(2)."""

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        return listeners.close(world, made) if world.protocol is Protocol.TCP else sockets.close(world, made)


@dataclass(frozen=True)
class Shutdown(OnSocket):
    """TCP: shutdown(2) of a listener."""

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        return listeners.shutdown(world, made) if made.state is State.LISTEN else None


@dataclass(frozen=True)
class Leave(OnSocket):
    """TCP: close(2) of a listener while connections wait to be accepted, its own and others'."""

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model; who inherits is up to `listeners.heirs`."""
        return listeners.close(world, made) if made.state is State.LISTEN else None


@dataclass(frozen=True)
class Listen(OnSocket):
    """TCP: listen(2) of a listener that was shut down."""

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        is_shut = world.protocol is Protocol.TCP and made.state is State.CLOSE
        return listeners.listen(world, made) if is_shut else None


@dataclass(frozen=True)
class SetReuseport(OnSocket):
    """SO_REUSEPORT, at any time."""

    on: bool = True

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        if world.protocol is Protocol.TCP:
            return None
        world.taken["SO_REUSEPORT"] += 1
        made.reuseport = self.on
        return 0


@dataclass(frozen=True)
class SetCpu(OnSocket):
    """SO_INCOMING_CPU: -1 for none, 0 for the CPU of the packets, 1 for another."""

    cpu: int = 0

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        groups.set_cpu(world, made, self.cpu)
        return 0


@dataclass(frozen=True)
class Attach(OnSocket):
    """SO_ATTACH_REUSEPORT_EBPF."""

    program: Program = Program.PLACE

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        if world.protocol is Protocol.TCP and not made.hashed:
            return None  # what bind(2) would say of it later is not in the model
        has = {Program.MAP: world.has_sockmap, Program.HASH: world.has_sockmap, Program.MIGRATE: world.has_migrate}
        if not has.get(self.program, True):
            return None
        return groups.attach(world, made, self.program)


@dataclass(frozen=True)
class Detach(OnSocket):
    """SO_DETACH_REUSEPORT_BPF."""

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        return groups.detach_program(world, made)


@dataclass(frozen=True)
class Fill(OnSocket):
    """Put the socket into a slot of the sockarray."""

    slot: int = 0
    flags: int = BPF_ANY

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model."""
        return slots.update(world, self.slot, made, self.flags)


@dataclass(frozen=True)
class Empty(Step):
    """Empty a slot of the sockarray."""

    slot: int = 0

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        return slots.delete(world, self.slot)


@dataclass(frozen=True)
class Swap(Step):
    """Put the other sockarray into the program's outer map."""

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        return slots.swap(world)


@dataclass(frozen=True)
class Withdraw(Step):
    """Leave the program's outer map without a sockarray."""

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        return slots.withdraw(world)


@dataclass(frozen=True)
class Crowd(Step):
    """Open `CROWD` sockets on one address at once, beside one that is there; if the crowd is there, close it."""

    family: Family = Family.IPV4
    specific: bool = False

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        crowd = [world.sockets[number] for number in self.numbers if number in world.sockets]
        if crowd:
            for made in crowd:
                Close(made.number).apply(world)
            return 0
        kinds = {(made.family, made.bound_specific) for made in world.sockets.values()}
        if (self.family, self.specific) not in kinds:
            return None
        answer = 0
        for number in self.numbers:
            answer = Open(number, self.family, specific=self.specific).apply(world) or 0
            if answer:
                break
        return answer

    @property
    def numbers(self) -> range:
        """Return the numbers of the sockets of the crowd."""
        return range(CROWDED, CROWDED + CROWD)
