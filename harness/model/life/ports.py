# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which sockets may share a port: bind(2) of UDP, net/ipv4/udp.c `udp_lib_get_port`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.model.layout import Family

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.model.life.state import Socket, World

_FEW = 10
"""With more sockets on a port, the chains of the addresses are searched for a conflict, not the port's."""


def port_in_use(world: World, socket: Socket) -> bool:
    """`udp_lib_get_port`: whether another socket forbids the bind.

    Kernels with K15 search the wildcard's chain alone for a wildcard socket (e537dd15d0d4).
    """
    if len(world.primary) <= _FEW or not (socket.specific or world.behaviour.wildcard_in_its_chain):
        return _in_use(world.primary, socket)
    world.taken["udp_lib_lport_inuse2"] += 1
    own = world.bucket(socket.family, specific=socket.specific)
    wild = world.bucket(socket.family, specific=False)
    return _in_use(own, socket) or (own is not wild and _in_use(wild, socket))


def _in_use(chain: Iterable[Socket], socket: Socket) -> bool:
    """`udp_lib_lport_inuse`: the first socket of the chain that overlaps decides, and no other."""
    for other in chain:
        if other is not socket and _devices_overlap(socket, other) and overlap(socket, other):
            return not (other.reuseport and socket.reuseport and socket.group is None and other.user == socket.user)
    return False


def _devices_overlap(socket: Socket, other: Socket) -> bool:
    return not socket.device or not other.device or socket.device == other.device


def overlap(socket: Socket, other: Socket) -> bool:
    """`inet_rcv_saddr_equal` with wildcards: whether some packet could be for both addresses."""
    if socket.family is other.family:
        return socket.specific == other.specific or not (socket.specific and other.specific)
    if socket.family is Family.IPV6:
        # ipv6_rcv_saddr_equal: a wildcard covers IPv4 addresses unless IPV6_V6ONLY
        return not socket.specific and not socket.v6only
    # ipv4_rcv_saddr_equal: an IPv6 socket with an address counts as one with another IPv4 address (LOOPBACK4_IPV6)
    if other.v6only:
        return False
    return not socket.specific or not other.specific


def same_group(socket: Socket, other: Socket) -> bool:
    """`udp_reuseport_add_sock`, `inet_reuseport_add_sock`: whether both belong into one group."""
    return (
        other is not socket
        and other.family is socket.family
        and other.v6only == socket.v6only
        and other.device == socket.device
        and other.reuseport
        and other.user == socket.user
        and other.specific == socket.specific
    )
