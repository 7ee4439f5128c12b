# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What system calls do to one TCP listener: listen, shutdown, close. Pure.

Each returns the errno, 0 for none. All listeners of a history have SO_REUSEPORT and one user, so that no bind(2) is
refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.model.abi import BY_HASH, REFUSE
from harness.model.layout import Family
from harness.model.life import groups, ports
from harness.model.life.state import HEIRS, THIS_CPU, Program, State

if TYPE_CHECKING:
    from harness.model.life.state import Group, Socket, World


def bind(socket: Socket, *, specific: bool) -> None:
    """`inet_csk_get_port`: take the port. The socket joins no group yet."""
    socket.specific = socket.bound_specific = specific
    if specific and socket.family is Family.IPV6:
        socket.v6only = True  # __inet6_bind: an IPv6 address is for IPv6 alone


def listen(world: World, socket: Socket) -> int:
    """`__inet_hash`: join or begin a group, and enter the chain of the address."""
    chain = world.bucket(socket.family, specific=socket.specific)
    world.taken["__inet_hash"] += 1
    inany = not socket.specific
    refused = None
    for other in chain:
        if ports.same_group(socket, other):
            refused = groups.add(world, socket, other, bind_inany=inany)
            break
    if refused is None:
        refused = groups.alloc(world, socket, bind_inany=inany)
    if refused:
        return refused
    socket.state, socket.hashed = State.LISTEN, True
    socket.pending, socket.pending_is_known = 0, True  # reqsk_queue_alloc
    if socket.family is Family.IPV6:
        chain.append(socket)  # behind IPv4's, which come first where both fit (d894ba18d4e4)
    else:
        chain.insert(0, socket)
    return 0


def shutdown(world: World, socket: Socket) -> int:
    """`inet_unhash`, called by `tcp_disconnect`: listen no more, and keep the port."""
    world.taken["inet_unhash"] += 1
    groups.stop_listening(world, socket, may_migrate=may_migrate(world, socket.group))
    world.bucket(socket.family, specific=socket.specific).remove(socket)
    socket.state, socket.hashed = State.CLOSE, False
    return 0


def may_migrate(world: World, group: Group | None) -> bool:
    """Return whether connections of a group migrate: by tcp_migrate_req, or by a program for that."""
    return world.migrates or (group is not None and group.program is Program.MIGRATE)


def heirs(world: World, group: Group) -> list[Socket]:
    """`reuseport_migrate_sock`: the members to which a listener that ended may leave a connection; the hash chooses.

    Nobody, and the connection is reset, where connections do not migrate, no member is left, or the program refuses:
    it does so, too, if it cannot select the one that it names (`sk_select_reuseport`).
    """
    if not (may_migrate(world, group) and group.members):
        world.taken["reuseport_migrate_sock: nobody"] += 1
        return []
    if group.program is Program.MIGRATE and world.names != BY_HASH:
        named = None if world.names == REFUSE else world.sockarrays[HEIRS].get(world.names)
        selected = named is not None and named.group is group
        way = "SK_DROP" if world.names == REFUSE else "selected" if selected else "not selected"
        world.taken[f"reuseport_migrate_sock: {way}"] += 1
        return [named] if named is not None and selected else []
    world.taken["reuseport_migrate_sock" + (": SK_PASS" if group.program is Program.MIGRATE else "")] += 1
    here = [member for member in group.members if member.cpu == THIS_CPU]
    counted = group.incoming_cpu and not world.behaviour.cpu_in_score_only
    return here if counted and here else group.members


def close(world: World, socket: Socket) -> int:
    """`tcp_close`: end, and be forgotten unless a request still needs it."""
    if socket.hashed:
        shutdown(world, socket)
    world.unlink(socket)
    del world.sockets[socket.number]
    release(world, socket)
    return 0


def release(world: World, listener: Socket) -> None:
    """`sk_destruct`: a listener that is closed leaves the closed section once no request holds it any more."""
    is_open = world.sockets.get(listener.number) is listener
    if not is_open and all(request.listener is not listener for request in world.requests.values()):
        groups.detach(world, listener)
