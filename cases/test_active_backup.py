# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Two sockets, one service: a backup for a primary that closes, and two that share the work.

The kernel empties the slot of a socket as it closes, so the very next packet finds the other one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family, in_sockarray, on_wildcard, promise
from harness.model.abi import Result
from harness.model.layout import Bind, Family, InnerMap, Protocol, Shape
from harness.model.outcome import Delivered, Dropped
from harness.wire import frames
from harness.wire.batch import NUMBER

if TYPE_CHECKING:
    from harness.cases import DeliverTo, MakeGroup, Wire


NO_SOCKET = Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)
PRIMARY, BACKUP = 0, 1
BEFORE, BURST, AFTER = 400, 100, 400
"""A thousand in all. A socket's receive buffer holds 256 datagrams, however short: a burst stays below."""


@promise("pair.backup")
@on_wildcard
def test_backup_stands_in_while_the_primary_is_away(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape
) -> None:
    """All packets go to the primary while it is in its slot, and to the backup from its close() on."""
    group = make_group(shape, program="active_backup", size=2)
    deliver = delivery_to(group)
    for _ in range(2):
        assert {deliver(deliver.packet(b"work")) for _ in range(6)} == {Delivered(PRIMARY)}
        group.leave(PRIMARY)
        assert {deliver(deliver.packet(b"work")) for _ in range(6)} == {Delivered(BACKUP)}
        group.join(PRIMARY)
        # The new socket is a member at once, but in no slot: a program that selects by map does not see it yet.
        assert deliver(deliver.packet(b"work")) == Delivered(BACKUP)
        group.set_slot(PRIMARY, PRIMARY)
    assert deliver(deliver.packet(b"work")) == Delivered(PRIMARY)


@promise("pair.active")
@on_wildcard
def test_two_that_share_the_work_stand_in_for_each_other(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape
) -> None:
    """The parity of the client's port decides between two sockets; while one of them is closed, the other has all."""
    group = make_group(shape, program="active_active", size=2)
    deliver = delivery_to(group)
    packets = [deliver.packet(source_port=30_000 + number) for number in range(8)]
    assert [deliver(packet) for packet in packets] == [Delivered(number % 2) for number in range(8)]
    for leaving in (0, 1):
        deliver.reset_connections()
        group.leave(leaving)
        assert {deliver(packet) for packet in packets} == {Delivered(1 - leaving)}
        group.join(leaving)
        group.set_slot(leaving, leaving)
    deliver.reset_connections()
    assert [deliver(packet) for packet in packets] == [Delivered(number % 2) for number in range(8)]


@promise("pair.neither")
@on_wildcard
@in_sockarray
@pytest.mark.parametrize("program", ["active_backup", "active_active"])
def test_two_empty_slots_drop(make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape, program: str) -> None:
    """A packet is dropped where neither slot is filled, though the group has two members, and where there is no map."""
    group = make_group(shape, program=program, size=2)
    deliver = delivery_to(group)
    group.clear_slot(PRIMARY)
    group.clear_slot(BACKUP)
    assert deliver(deliver.packet()) == NO_SOCKET
    group.withdraw_inner_map()
    assert deliver(deliver.packet()) == Dropped(Result.DROP_ERR_INNER_MAP)


@promise("pair.no-loss")
@each_family
def test_no_packet_is_lost_once_the_close_has_returned(
    make_group: MakeGroup, delivery_to: DeliverTo, wire: Wire, family: Family
) -> None:
    """Every datagram that is sent after the primary's close() reaches the backup.

    The primary closes in the middle of a burst that nobody waits for; what was still on its way may reach either.
    """
    shape = Shape(protocol=Protocol.UDP, family=family, bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)
    group = make_group(shape, program="active_backup", size=2)
    deliver = delivery_to(group)
    assert deliver.send_many([deliver.packet() for _ in range(BEFORE)]) == [PRIMARY] * BEFORE

    burst = [frame for n in range(2 * BURST) for frame in frames.datagram(deliver.packet(NUMBER.pack(n)))]
    wire.post(burst[:BURST])
    group.leave(PRIMARY)
    wire.post(burst[BURST:])
    assert deliver.read_replies() == []
    received = group.collect_numbers()
    assert set(received.values()) == {BACKUP}
    assert set(received) >= set(range(BURST, 2 * BURST))
    assert group.program.new_results() == {Result.PASS: 2 * BURST}
    assert deliver.send_many([deliver.packet() for _ in range(AFTER)]) == [BACKUP] * AFTER

    group.join(PRIMARY)
    group.set_slot(PRIMARY, PRIMARY)
    assert deliver.send_many([deliver.packet() for _ in range(BEFORE)]) == [PRIMARY] * BEFORE
