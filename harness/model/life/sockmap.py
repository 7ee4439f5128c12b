# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The slots of BPF_MAP_TYPE_SOCKMAP and _SOCKHASH, net/core/sock_map.c, and the steps that change them. Pure.

A socket may be in several slots, and need not be in a group. It leaves them when it closes, and not before: a listener
that is shut down stays (b8b8315e39ff). A socket is in such a map or in a sockarray: both use sk_user_data.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.model.layout import Protocol
from harness.model.life.slots import SLOTS
from harness.model.life.state import State
from harness.model.life.steps import OnSocket, Step
from harness.model.uapi import BPF_ANY, BPF_EXIST, BPF_NOEXIST

if TYPE_CHECKING:
    from harness.model.life.state import Socket, World


KEYS = 2
"""Sockets that the sockhash of a history has room for."""


@dataclass(frozen=True)
class ToMap(OnSocket):
    """A step that puts the socket into a map of such a type."""

    def act(self, world: World, made: Socket) -> int | None:
        """Do it in the model: `sock_map_update_elem_sys`."""
        if not world.has_sockmap or (made.protocol is Protocol.UDP and not made.hashed):
            return None  # K34 is about such a socket of UDP
        if made.protocol is Protocol.TCP and made.state is not State.LISTEN:
            world.taken["sock_map_sk_state_allowed"] += 1
            return errno.EOPNOTSUPP
        return self.put(world, made)

    def put(self, world: World, made: Socket) -> int:
        """Put a socket into the map that a map may take."""
        raise NotImplementedError


@dataclass(frozen=True)
class Link(ToMap):
    """Put the socket into a slot of the sockmap."""

    slot: int = 0
    flags: int = BPF_ANY

    def put(self, world: World, made: Socket) -> int:
        """Do as `sock_map_update_common` does."""
        answer = _refusal(world, self.slot, made, self.flags)
        world.taken["sock_map_update_common" + (f": {errno.errorcode[answer]}" if answer else "")] += 1
        if not answer:
            world.sockmap[self.slot] = made
        return answer


def _refusal(world: World, slot: int, made: Socket, flags: int) -> int:
    """Do as `sock_map_link` and `sock_map_update_common` do."""
    if slot >= SLOTS:
        return errno.E2BIG
    if made.slot is not None:
        return errno.EBUSY
    if slot in world.sockmap and flags == BPF_NOEXIST:
        return errno.EEXIST
    if slot not in world.sockmap and flags == BPF_EXIST:
        return errno.ENOENT
    return 0


@dataclass(frozen=True)
class Unlink(Step):
    """Empty a slot of the sockmap."""

    slot: int = 0

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        if not world.has_sockmap:
            return None
        held = world.sockmap.pop(self.slot, None)
        world.taken["sock_map_delete_elem" + (": EINVAL" if held is None else "")] += 1
        return errno.EINVAL if held is None else 0


@dataclass(frozen=True)
class LinkKey(ToMap):
    """Put the socket at a key of the sockhash."""

    key: int = 0
    flags: int = BPF_ANY

    def put(self, world: World, made: Socket) -> int:
        """Do as `sock_hash_update_common` does."""
        answer = self._refusal(world, made)
        world.taken["sock_hash_update_common" + (f": {errno.errorcode[answer]}" if answer else "")] += 1
        if not answer:
            world.sockhash[self.key] = made
        return answer

    def _refusal(self, world: World, made: Socket) -> int:
        if made.slot is not None:
            return errno.EBUSY
        if self.key in world.sockhash and self.flags == BPF_NOEXIST:
            return errno.EEXIST
        if self.key not in world.sockhash and self.flags == BPF_EXIST:
            return errno.ENOENT
        # sock_hash_alloc_elem
        return errno.E2BIG if self.key not in world.sockhash and len(world.sockhash) >= KEYS else 0


@dataclass(frozen=True)
class UnlinkKey(Step):
    """Remove a key of the sockhash."""

    key: int = 0

    def apply(self, world: World) -> int | None:
        """Do it in the model."""
        if not world.has_sockmap:
            return None
        held = world.sockhash.pop(self.key, None)
        world.taken["sock_hash_delete_elem" + (": ENOENT" if held is None else "")] += 1
        return errno.ENOENT if held is None else 0
