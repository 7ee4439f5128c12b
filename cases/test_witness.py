# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel's own answer, traced in its functions, agrees with the map's record and with the socket that received.

Three views that share nothing: bcc reads what functions return, the program writes maps, and the socket holds bytes.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from typing import TYPE_CHECKING

from harness.cases import in_sockarray, on_wildcard, place_by_hash, promise, requires, tcp, udp
from harness.model.abi import Result
from harness.model.layout import GROUP_SIZE, Protocol
from harness.model.outcome import Delivered, Dropped
from harness.trace.events import Kind
from harness.wire import frames

if TYPE_CHECKING:
    from harness.cases import DeliverTo, Delivery, MakeCommand, MakeGroup, ReuseportGroup, Wire
    from harness.model.layout import Shape
    from harness.plugins.witness import Trace
    from harness.trace.events import Event


pytestmark = [on_wildcard, in_sockarray]

NO_SLOT = GROUP_SIZE
SENT = 8
ESTABLISHED = 1  # TCP_ESTABLISHED


def only(events: tuple[Event, ...], kind: Kind) -> Event:
    """Return the one event of a kind."""
    (found,) = (event for event in events if event.kind is kind)
    return found


def member_of(event: Event, group: ReuseportGroup) -> int | None:
    """Return the member that an event names by its cookie, None where it names no socket."""
    if event.socket is None:
        return None
    return {group.cookie(member): member for member in group.layout.members}[event.socket.cookie]


def end_of(events: tuple[Event, ...], protocol: Protocol) -> Event:
    """Return the event that puts a packet, or the connection that it opens, into a queue."""
    return only(events, Kind.QUEUED if protocol is Protocol.UDP else Kind.ACCEPT)


@promise("witness.selection")
def test_kernel_map_and_socket_agree_on_a_selection(
    group: ReuseportGroup, deliver: Delivery, command: MakeCommand, trace: Trace
) -> None:
    """The socket that bpf_sk_select_reuseport() chose is the one that the group returned and the one that received."""
    for index in (0, 13, GROUP_SIZE - 1):
        selection = deliver(command(index))
        assert selection == Delivered(index)
        events = trace.new_events()
        helper = only(events, Kind.HELPER)
        assert (helper.value, helper.reason, member_of(helper, group)) == (index, 0, index)
        assert member_of(only(events, Kind.PROGRAM), group) == index
        assert member_of(only(events, Kind.SELECTED), group) == index
        assert member_of(end_of(events, group.shape.protocol), group) == index
        seen = only(events, Kind.GROUP)
        assert (seen.members, seen.value) == (GROUP_SIZE, selection.hash)


@promise("witness.drop")
def test_kernel_map_and_socket_agree_on_a_drop(deliver: Delivery, command: MakeCommand, trace: Trace) -> None:
    """The helper's error, the program's verdict and the group's answer say drop; the packet is freed as dropped."""
    assert deliver(command(NO_SLOT)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)
    events = trace.new_events()
    helper = only(events, Kind.HELPER)
    assert (helper.value, helper.reason, helper.socket) == (NO_SLOT, -errno.ENOENT, None)
    assert only(events, Kind.PROGRAM).error == only(events, Kind.SELECTED).error == errno.ECONNREFUSED
    assert not {Kind.QUEUED, Kind.REQUEST, Kind.ACCEPT} & {event.kind for event in events}
    assert only(events, Kind.DROP).value


@promise("witness.fall-back")
def test_kernel_map_and_socket_agree_on_the_fall_back(
    group: ReuseportGroup, deliver: Delivery, command: MakeCommand, trace: Trace
) -> None:
    """The program selects nothing, and the group's answer is the member on which the packet's hash falls."""
    for _ in range(4):
        selection = deliver(command(NO_SLOT, pass_on_failure=True))
        events = trace.new_events()
        seen = only(events, Kind.GROUP)
        member = place_by_hash(seen.value, seen.members)
        assert selection == Delivered(member, Result.PASS_ERR_SK_SELECT_REUSEPORT)
        assert selection.hash == seen.value
        assert (only(events, Kind.PROGRAM).value, only(events, Kind.PROGRAM).socket) == (0, None)
        assert member_of(only(events, Kind.SELECTED), group) == member
        assert member_of(end_of(events, group.shape.protocol), group) == member


@promise("witness.no-program")
def test_kernel_runs_no_program_where_none_is_attached(
    group: ReuseportGroup, deliver: Delivery, command: MakeCommand, trace: Trace
) -> None:
    """Without a program the group answers by the hash alone, and says that it has none."""
    packet = command(5)
    hash_ = deliver(packet).hash
    deliver.reset_connections()
    group.detach()
    trace.new_events()
    assert hash_ is not None
    member = place_by_hash(hash_, GROUP_SIZE)
    assert deliver(packet, hash_=hash_) == Delivered(member, None)
    events = trace.new_events()
    assert not {Kind.PROGRAM, Kind.HELPER} & {event.kind for event in events}
    assert (only(events, Kind.GROUP).program, only(events, Kind.GROUP).type) == (0, 0)
    assert member_of(only(events, Kind.SELECTED), group) == member


@promise("witness.full-queue")
@udp
def test_kernel_and_socket_agree_on_a_full_queue(
    make_group: MakeGroup,
    delivery_to: DeliverTo,
    shape: Shape,
    wire: Wire,
    trace: Trace,
) -> None:
    """A member that is selected and reads nothing holds what its queue took; the rest is freed as dropped."""
    group = make_group(shape, size=2)
    group.socket_of(1).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the least that the kernel grants
    deliver = delivery_to(group)
    for _ in range(SENT):
        wire.send(frames.datagram(deliver.command(1)))
    held = len(group.collect()[1])
    kinds = Counter(event.kind for event in trace.new_events())
    assert 0 < held < SENT
    assert (kinds[Kind.SELECTED], kinds[Kind.QUEUED], kinds[Kind.DROP]) == (SENT, held, SENT - held)


@promise("witness.migration")
@tcp
@requires("tcp_migrate_req")
def test_kernel_and_socket_agree_on_a_migration(
    make_group: MakeGroup,
    delivery_to: DeliverTo,
    shape: Shape,
    wire: Wire,
    trace: Trace,
) -> None:
    """The listener that the group names for a closing one's connection accepts it, with its data."""
    group = make_group(shape, size=4)
    wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    deliver = delivery_to(group)
    handshake = deliver.send_syn(deliver.command(0))
    assert deliver.send_ack(handshake, b"early") == []
    closing, left = group.cookie(0), {group.cookie(member): member for member in (1, 2, 3)}
    trace.new_events()
    group.leave(0)
    (accepted,) = group.collect().items()
    events = trace.new_events()
    away, to = only(events, Kind.MIGRATE), only(events, Kind.MIGRATED)
    assert away.socket is not None
    assert to.socket is not None
    assert (away.socket.cookie, away.type) == (closing, ESTABLISHED)
    assert accepted == (left[to.socket.cookie], (b"early",))
