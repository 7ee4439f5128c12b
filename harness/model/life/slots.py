# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The slots of a BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, and the outer map of two such.

kernel/bpf/reuseport_array.c, and kernel/bpf/arraymap.c for the outer map. Pure.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.model.uapi import BPF_EXIST, BPF_NOEXIST

if TYPE_CHECKING:
    from harness.model.life.state import Socket, World

ENOTSUPP = 524
"""The kernel's own number (include/linux/errno.h), without a name for users."""

SLOTS = 8
"""Slots of the sockarray of a history."""


def update(world: World, index: int, socket: Socket, flags: int, *, array: int | None = None) -> int:
    """`bpf_fd_reuseport_array_update_elem`: put a socket into a slot; return the errno, 0 for none.

    `array` is the sockarray among the world's, by default the one that was put into the outer map last.
    """
    array = world.inner if array is None else array
    slots = world.sockarrays[array]
    held = slots.get(index)
    if answer := _refusal(world, index, socket, held, flags):
        world.taken[f"reuseport_array_update: {errno.errorcode.get(answer, 'ENOTSUPP')}"] += 1
        return answer
    world.taken["reuseport_array_update" + (": replaced" if held else "")] += 1
    if held is not None:
        held.slot = None
    slots[index] = socket
    socket.slot = array, index
    return 0


def _refusal(world: World, index: int, socket: Socket, held: Socket | None, flags: int) -> int:
    """Do as `reuseport_array_update_check` does."""
    if index >= SLOTS:
        return errno.E2BIG
    if held is not None and flags == BPF_NOEXIST:
        return errno.EEXIST
    if held is None and flags == BPF_EXIST:
        return errno.ENOENT
    if not socket.fits:
        return ENOTSUPP
    if not socket.hashed or socket.group is None:
        return errno.EINVAL
    if socket.slot is not None or world.is_linked(socket):
        return errno.EBUSY
    return 0


def delete(world: World, index: int, *, array: int | None = None) -> int:
    """`reuseport_array_delete_elem`: empty a slot; return the errno, 0 for none. `array` as for `update`."""
    if index >= SLOTS:
        world.taken["reuseport_array_delete: E2BIG"] += 1
        return errno.E2BIG
    held = world.sockarrays[world.inner if array is None else array].pop(index, None)
    if held is None:
        world.taken["reuseport_array_delete: ENOENT"] += 1
        return errno.ENOENT
    world.taken["reuseport_array_delete"] += 1
    held.slot = None
    return 0


def swap(world: World) -> int:
    """`bpf_fd_array_map_update_elem`: put the other sockarray into the outer map."""
    world.taken["bpf_fd_array_map_update_elem" + ("" if world.inner_is_there else ": was empty")] += 1
    world.inner, world.inner_is_there = 1 - world.inner, True
    return 0


def withdraw(world: World) -> int:
    """`__fd_array_map_delete_elem`: leave the outer map without any; return the errno, 0 for none."""
    if not world.inner_is_there:
        world.taken["__fd_array_map_delete_elem: ENOENT"] += 1
        return errno.ENOENT
    world.taken["__fd_array_map_delete_elem"] += 1
    world.inner_is_there = False
    return 0
