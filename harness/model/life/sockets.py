# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What system calls do to one UDP socket: bind, connect, disconnect, close. Pure.

Each returns the errno, 0 for none.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.model.layout import Family
from harness.model.life import groups, ports
from harness.model.life.state import THIS_CPU

if TYPE_CHECKING:
    from harness.model.life.state import Socket, World


def bind(world: World, socket: Socket, *, specific: bool) -> int:
    """`udp_lib_get_port`: take the port, join or begin a group, and enter the tables."""
    saved = socket.v6only
    socket.specific = specific
    if specific and socket.family is Family.IPV6:
        socket.v6only = True  # __inet6_bind: an IPv6 address is for IPv6 alone
    if ports.port_in_use(world, socket):
        world.taken["udp_lib_get_port: EADDRINUSE"] += 1
        socket.specific, socket.v6only = False, saved
        return errno.EADDRINUSE
    if socket.reuseport:
        _join(world, socket)
    socket.bound_specific = specific
    socket.hashed = True
    world.taken["udp_lib_get_port"] += 1
    for chain in (world.primary, world.bucket(socket.family, specific=specific)):
        if socket.reuseport and socket.family is Family.IPV6:
            chain.append(socket)  # sk_add_node_rcu: behind IPv4's, which come first where both fit (d894ba18d4e4)
        else:
            chain.insert(0, socket)
    return 0


def _join(world: World, socket: Socket) -> None:
    """`udp_reuseport_add_sock`: the newest socket of the kind stands for its group."""
    inany = not socket.specific
    for other in world.primary:
        if ports.same_group(socket, other):
            groups.add(world, socket, other, bind_inany=inany)
            return
    groups.alloc(world, socket, bind_inany=inany)


def connect(world: World, socket: Socket, peer: int) -> int:
    """`__ip4_datagram_connect`, `__ip6_datagram_connect`: have one peer alone.

    A wildcard socket gets the server's address, and is hashed anew. Then it is filed under its four-tuple.
    """
    world.taken["ip_datagram_connect" + (": again" if socket.peer else "")] += 1
    known = socket.peer
    if world.behaviour.address_before_rehash or socket.family is Family.IPV6:
        known = peer
    if not socket.specific:
        _rehash(world, socket, specific=True, peer=known)
    socket.peer, socket.knows_address = peer, True
    groups.has_conns_set(world, socket)
    socket.state = socket.state.ESTABLISHED
    if world.behaviour.four_tuple_hash:
        _hash4(world, socket)
    return 0


def _hash4(world: World, socket: Socket) -> None:
    """`udp_lib_hash4`: a connected socket is in a hash of its own, and in no group (78c91ae2c6de)."""
    key = (socket.specific, socket.peer)
    if socket.filed_under is None:
        world.taken["udp_lib_hash4"] += 1
        groups.detach(world, socket)
        _file(world, socket, key)
    elif world.behaviour.forgets_new_peer:
        world.taken["udp_lib_hash4: not moved"] += 1
    else:
        # also of a socket whose place is right: that costs nothing, and nothing sees it
        world.taken["udp_lib_hash4: moved"] += 1
        if socket.filed_under != key:
            _file(world, socket, key)


def _rehash(world: World, socket: Socket, *, specific: bool, peer: int | None) -> None:
    """`udp_lib_rehash`: another address means another chain, and no group."""
    world.taken["udp_lib_rehash"] += 1
    groups.detach(world, socket)
    world.bucket(socket.family, specific=socket.specific).remove(socket)
    socket.specific = specific
    world.bucket(socket.family, specific=specific).insert(0, socket)
    if socket.filed_under is None:
        return
    if not specific and not world.behaviour.keeps_garbage:
        world.taken["udp_unhash4"] += 1
        _unfile(world, socket)
    else:
        world.taken["udp_rehash4"] += 1
        _file(world, socket, (specific, peer))


def disconnect(world: World, socket: Socket) -> int:
    """`__udp_disconnect`: connect(2) to AF_UNSPEC takes peer and device away, and an address that connect(2) gave."""
    world.taken["__udp_disconnect" + (": was connected" if socket.peer else "")] += 1
    socket.state = socket.state.CLOSE
    socket.peer = None
    socket.knows_address &= socket.family is Family.IPV6
    socket.device = False
    if not socket.bound_specific and socket.hashed:
        if socket.specific:
            _rehash(world, socket, specific=False, peer=None)
        elif socket.group is not None:
            world.taken["udp_lib_rehash: same address"] += 1
            groups.detach(world, socket)  # the address is what it was, and yet it leaves
    return 0


def close(world: World, socket: Socket) -> int:
    """`udp_lib_unhash`: leave the group and the tables."""
    world.taken["udp_lib_unhash"] += 1
    world.unlink(socket)
    groups.detach(world, socket)
    if socket.hashed:
        world.primary.remove(socket)
        world.bucket(socket.family, specific=socket.specific).remove(socket)
    _unfile(world, socket)
    socket.hashed = False
    del world.sockets[socket.number]
    return 0


def receive(world: World, socket: Socket) -> None:
    """`__udp_queue_rcv_skb`: a socket that knows a peer takes note of the CPU; its group's count does not."""
    if socket.knows_address and socket.cpu != THIS_CPU:
        world.taken["sk_incoming_cpu_update"] += 1
        socket.cpu = THIS_CPU


def _file(world: World, socket: Socket, key: tuple[bool, int | None]) -> None:
    """`udp_rehash4`: the head of the chain is the newest."""
    _unfile(world, socket)
    socket.filed_under = key
    world.connected.insert(0, socket)


def _unfile(world: World, socket: Socket) -> None:
    if socket.filed_under is not None:
        world.connected.remove(socket)
        socket.filed_under = None
