# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Connections of TCP between their SYN and their ACK: requests, SYN cookies, fast open. Pure.

Each function takes the packet whose SYN, ACK or RST arrives, and returns what can be seen of what that leads to. The
kernel's function that it names is one that `tcp_v4_rcv` and `tcp_v6_rcv` come to.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from harness.model.abi import BY_HASH
from harness.model.layout import Protocol
from harness.model.life import listeners
from harness.model.life.datagram import Datagram
from harness.model.life.fast_open import Given, try_fast_open
from harness.model.life.listening import ListenerLookup
from harness.model.life.state import Program, Request, Seen, Socket, State
from harness.model.outcome import ReplyKind

if TYPE_CHECKING:
    from harness.model.layout import Family
    from harness.model.life.state import World

STRANGERS = 20000
"""Source ports of senders that no socket is connected to: each index has one, and so a hash of its own."""

BACKLOG = 128
"""What listen(2) of a history says: how many requests and connections may wait."""

_UNSIGNED = 1 << 32


@cache
def stranger(family: Family, index: int) -> Datagram:
    """Return the packet for an index, from the port that is its own."""
    return Datagram(family, STRANGERS + index, index)


def is_silent(world: World, listener: Socket) -> bool:
    """Return whether a listener drops SYNs: `tcp_rcv_state_process` of one that is shut down, or the queue is full.

    `inet_csk_reqsk_queue_is_full` compares the count as an unsigned number.
    """
    if listener.protocol is Protocol.UDP:
        return False
    return listener.state is State.CLOSE or (not world.cookies and listener.queued % _UNSIGNED > BACKLOG)


def note_silence(world: World, listener: Socket) -> None:
    """Note why a listener drops a SYN, if `is_silent`."""
    shut = listener.state is State.CLOSE
    world.taken["tcp_rcv_state_process: TCP_CLOSE" if shut else "inet_csk_reqsk_queue_is_full"] += 1


def syn(world: World, packet: Datagram, given: Given = Given.NOTHING) -> Seen:
    """`tcp_conn_request`: a SYN leaves a request, or is answered with a cookie, or opens the connection at once."""
    listener = _looked_up(world, packet)
    if listener is None:
        world.taken["tcp_v4_send_reset"] += 1
        return Seen(reply=ReplyKind.RESET)
    if is_silent(world, listener):
        note_silence(world, listener)
        return Seen()
    fast = try_fast_open(world, listener, packet.family, given)
    if fast.data_taken:
        takers = frozenset({listener.number})
        return Seen(reply=ReplyKind.SYN_ACK, takers=takers, data_taken=True, cookie=fast.cookie)
    if world.cookies:
        note_cookie(world, listener)
        world.requests[packet] = Request(None)
    else:
        world.taken["inet_csk_reqsk_queue_hash_add"] += 1
        listener.queued += 1
        world.requests[packet] = Request(listener)
    return Seen(reply=ReplyKind.SYN_ACK, cookie=fast.cookie)


def note_cookie(world: World, listener: Socket) -> None:
    """`tcp_synq_overflow`: the listener's whole group looks for cookies in ACKs from now on (40a1227ea845)."""
    world.taken["tcp_synq_overflow"] += 1
    if listener.group is not None:
        listener.group.sent_cookie = True


def ack(world: World, packet: Datagram) -> Seen:
    """`tcp_check_req`: the ACK of a request, or of a cookie, completes the connection, and a listener accepts it."""
    listener = world.requests.pop(packet).listener
    if listener is None:
        return _cookie(world, packet)
    heirs = _heirs(world, listener)
    listener.queued -= 1
    listeners.release(world, listener)
    if heirs:
        return Seen(takers=frozenset(heir.number for heir in heirs))
    return _of_no_connection(world, packet)


def _heirs(world: World, listener: Socket) -> list[Socket]:
    """Return the listeners one of which gets a request's next segment; [] if the request has none left."""
    if listener.state is State.LISTEN:
        world.taken["tcp_check_req"] += 1
        return [listener]
    heirs = [] if listener.group is None else listeners.heirs(world, listener.group)
    world.taken["tcp_check_req: migrated" if heirs else "inet_csk_reqsk_queue_drop_and_put"] += 1
    return heirs


def _cookie(world: World, packet: Datagram) -> Seen:
    """`cookie_v4_check`, `cookie_v6_check`: the ACK selects as the SYN did, and whoever is found accepts."""
    listener = _looked_up(world, packet)
    if listener is not None and listener.state is State.CLOSE:
        return Seen()
    if listener is None or not world.cookies or listener.group is None or not listener.group.sent_cookie:
        world.taken["cookie_v4_check: none"] += 1
        return Seen(reply=ReplyKind.RESET)
    world.taken["cookie_v4_check"] += 1
    return Seen(takers=frozenset({listener.number}))


def _of_no_connection(world: World, packet: Datagram) -> Seen:
    """`tcp_rcv_state_process`, TCP_LISTEN, or no listener: the ACK is looked up like a SYN, and reset."""
    listener = _looked_up(world, packet)
    return Seen(reply=None if listener is not None and listener.state is State.CLOSE else ReplyKind.RESET)


def can_reset(world: World, packet: Datagram) -> bool:
    """Return whether it is known what a reset comes to: with K45 the hash says which of several listeners counts it."""
    listener = world.requests[packet].listener
    if listener is None or listener.state is State.LISTEN or not world.behaviour.counts_reset_at_heir:
        return True
    group = listener.group
    if group is None or not listeners.may_migrate(world, group) or len(group.members) <= 1:
        return True
    return group.program is Program.MIGRATE and world.names != BY_HASH


def reset(world: World, packet: Datagram) -> Seen:
    """`tcp_check_req`, embryonic_reset: the request is no more. Where nobody is left for it the RST is looked up."""
    listener = world.requests.pop(packet).listener
    heirs = [] if listener is None else _heirs(world, listener)
    if listener is not None:
        world.taken["inet_csk_reqsk_queue_drop" + (": migrating" if heirs and heirs != [listener] else "")] += 1
        counted = heirs[0] if heirs and world.behaviour.counts_reset_at_heir else listener
        counted.queued -= 1
        listeners.release(world, listener)
    if not heirs:
        _looked_up(world, packet)
    return Seen()


def _looked_up(world: World, packet: Datagram) -> Socket | None:
    lookup = ListenerLookup(world, packet, world.hash_of(packet))
    found = lookup.receiver()
    world.counted.update(lookup.results)
    return found
