# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Who is a member of which group: net/core/sock_reuseport.c. Pure.

Errors are returned as the errno, 0 for none.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.model.layout import Protocol
from harness.model.life.state import MOST_SOCKS, NO_CPU, Group

if TYPE_CHECKING:
    from harness.model.life.state import Program, Socket, World


def alloc(world: World, socket: Socket, *, bind_inany: bool) -> int:
    """`reuseport_alloc`: a socket begins a group; one that has a group keeps it."""
    group = socket.group
    if group is None:
        world.taken["reuseport_alloc"] += 1
        _append(socket, Group(bind_inany=bind_inany))
    elif group.closed:
        _resurrect(world, socket, group, None, bind_inany=bind_inany)
    else:
        world.taken["reuseport_alloc: the group is there"] += 1
        group.bind_inany |= bind_inany
    return 0


def add(world: World, socket: Socket, other: Socket, *, bind_inany: bool) -> int:
    """`reuseport_add_sock`: a socket joins another one's group, at the end."""
    if other.group is None:
        world.taken["reuseport_add_sock: the other had no group"] += 1
        alloc(world, other, bind_inany=bind_inany)
    group, old = other.group, socket.group
    assert group is not None
    if old is not None and old.closed:
        return _resurrect(world, socket, old, group, bind_inany=group.bind_inany)
    if old is not None and len(old.members) != 1:
        world.taken["reuseport_add_sock: EBUSY"] += 1
        return errno.EBUSY
    if not grow(world, group):
        return errno.ENOMEM
    world.taken["reuseport_add_sock"] += 1
    _append(socket, group)
    return 0


def grow(world: World, group: Group) -> bool:
    """`reuseport_grow`: double the array of a full group; return whether there is room.

    Members, program, `bind_inany`, `has_conns` and the closed section move along (f2b2c55e5128). An array that cannot
    grow makes room by forgetting the newest closed listener.
    """
    if len(group.members) + len(group.closed) < group.room:
        return True
    if group.room * 2 <= MOST_SOCKS:
        world.taken["reuseport_grow"] += 1
        group.room *= 2
        return True
    if not group.closed:
        world.taken["reuseport_grow: ENOMEM"] += 1
        return False
    world.taken["reuseport_grow: a closed listener makes room"] += 1
    forgotten = group.closed.pop()
    forgotten.group = None
    _count_cpu(forgotten, group, -1)
    return True


def detach(world: World, socket: Socket) -> None:
    """`reuseport_detach_sock`: a socket leaves its group and its slot; the last member takes its place."""
    group = socket.group
    if group is None:
        return
    clear_slot(world, socket)
    socket.group = None
    if socket in group.closed:
        world.taken["reuseport_detach_sock: closed"] += 1
        _remove_closed(socket, group)
    else:
        last = group.members[-1] is socket
        world.taken["reuseport_detach_sock" if last else "reuseport_detach_sock: the last fills the hole"] += 1
        _remove(socket, group)


def stop_listening(world: World, socket: Socket, *, may_migrate: bool) -> None:
    """`reuseport_stop_listen_sock`: a listener ends; where requests may migrate it moves to the closed section."""
    if socket.protocol is not Protocol.TCP or not may_migrate or socket.group is None:
        detach(world, socket)
        return
    world.taken["reuseport_stop_listen_sock"] += 1
    group = socket.group
    clear_slot(world, socket)
    _remove(socket, group)
    group.closed.append(socket)
    _count_cpu(socket, group, 1)


def has_conns_set(world: World, socket: Socket) -> None:
    """`reuseport_has_conns_set`: from now on the group's lookups go on scoring (acdcecc61285)."""
    if socket.group is not None:
        world.taken["reuseport_has_conns_set"] += 1
        socket.group.has_conns = True


def set_cpu(world: World, socket: Socket, cpu: int) -> None:
    """`reuseport_update_incoming_cpu`: the group counts the members that want a CPU (b261eda84ec1)."""
    world.taken["reuseport_update_incoming_cpu"] += 1
    group = socket.group
    if group is not None:
        group.incoming_cpu += (cpu > NO_CPU) - (socket.cpu > NO_CPU)
    socket.cpu = cpu


def attach(world: World, socket: Socket, program: Program) -> int:
    """`reuseport_attach_prog`: the program is the whole group's, and replaces the one before."""
    if not socket.hashed:
        if not socket.reuseport:
            world.taken["reuseport_attach_prog: EINVAL, no SO_REUSEPORT"] += 1
            return errno.EINVAL
        alloc(world, socket, bind_inany=False)
    elif socket.group is None:
        world.taken["reuseport_attach_prog: EINVAL, no group"] += 1
        return errno.EINVAL
    assert socket.group is not None
    world.taken["reuseport_attach_prog" + (": replaced" if socket.group.program else "")] += 1
    socket.group.program = program
    return 0


def detach_program(world: World, socket: Socket) -> int:
    """`reuseport_detach_prog`: the hash decides from now on."""
    group = socket.group
    if group is None:
        world.taken["reuseport_detach_prog: no group"] += 1
        return errno.ENOENT if socket.reuseport else errno.EINVAL
    if not socket.hashed and group.closed:
        world.taken["reuseport_detach_prog: closed"] += 1
        return errno.ENOENT
    if group.program is None:
        world.taken["reuseport_detach_prog: ENOENT"] += 1
        return errno.ENOENT
    world.taken["reuseport_detach_prog"] += 1
    group.program = None
    return 0


def clear_slot(world: World, socket: Socket) -> None:
    """`bpf_sk_reuseport_detach`: the sockarray forgets a socket that leaves its group."""
    if socket.slot is not None:
        world.taken["bpf_sk_reuseport_detach"] += 1
        sockarray, index = socket.slot
        del world.sockarrays[sockarray][index]
        socket.slot = None


def _resurrect(world: World, socket: Socket, old: Group, group: Group | None, *, bind_inany: bool) -> int:
    """`reuseport_resurrect`: a listener that was shut down listens again: at the end, in its group or a new one."""
    if group is old:
        world.taken["reuseport_resurrect"] += 1
        _remove_closed(socket, old)
        _append(socket, old)
        return 0
    if group is None:
        world.taken["reuseport_resurrect: a new group"] += 1
        group = Group(bind_inany=bind_inany)
    elif not grow(world, group):
        return errno.ENOMEM
    else:
        world.taken["reuseport_resurrect: another group"] += 1
    _remove_closed(socket, old)
    _append(socket, group)
    return 0


def _append(socket: Socket, group: Group) -> None:
    """Do as `__reuseport_add_sock` does."""
    group.members.append(socket)
    socket.group = group
    _count_cpu(socket, group, 1)


def _remove(socket: Socket, group: Group) -> None:
    """Do as `__reuseport_detach_sock` does."""
    place, last = group.members.index(socket), group.members.pop()
    if last is not socket:
        group.members[place] = last
    _count_cpu(socket, group, -1)


def _remove_closed(socket: Socket, group: Group) -> None:
    """`__reuseport_detach_closed_sock`: the newest takes its place."""
    place, newest = group.closed.index(socket), group.closed.pop()
    if newest is not socket:
        group.closed[place] = newest
    _count_cpu(socket, group, -1)


def _count_cpu(socket: Socket, group: Group, step: int) -> None:
    if socket.cpu > NO_CPU:
        group.incoming_cpu += step
