# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The model of a port's life by itself: what kernels are known to do, and what the model promises about itself."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies

from harness.campaign.table import NUMBERS_OF_STEPS, step_of
from harness.model.abi import Result
from harness.model.layout import Family, Protocol
from harness.model.life import groups
from harness.model.life.behaviour import BY_BUG, Behaviour, behaviour
from harness.model.life.datagram import Datagram
from harness.model.life.foreign import Kind
from harness.model.life.listeners import heirs
from harness.model.life.lookup import Lookup
from harness.model.life.state import THIS_CPU, Group, Program, Socket, World
from harness.model.life.steps import (
    CROWD,
    CROWDED,
    OTHER_USER,
    Attach,
    Bind,
    Close,
    Connect,
    Crowd,
    Detach,
    Disconnect,
    Empty,
    Fill,
    Leave,
    Open,
    SetCpu,
    SetReuseport,
    Step,
    Swap,
    Withdraw,
)
from harness.model.life.text import from_json, spelled, to_json
from harness.model.life.transitions import TRANSITIONS, not_taken
from harness.model.uapi import BPF_EXIST, BPF_NOEXIST

if TYPE_CHECKING:
    from collections.abc import Sequence

HASHES = (0, 0)
STRANGER = Datagram(Family.IPV4, 20000, 0)


def world_after(*history: Step, like: Behaviour | None = None) -> World:
    world = World(like or Behaviour())
    for step in history:
        assert not step.apply(world), f"{spelled(step)} is refused"
    return world


def answer(world: World, step: Step) -> str:
    """Return the name of the errno with which a step is refused; empty if it is done."""
    refused = step.apply(world)
    assert refused is not None, f"{spelled(step)} does nothing"
    return errno.errorcode[refused] if refused else ""


def reached(world: World, packet: Datagram = STRANGER, hashes: tuple[int, int] = HASHES) -> int | None:
    found = Lookup(world, packet, hashes).receiver()
    return None if found is None else found.number


def places(world: World, number: int = 8) -> list[int | None]:
    """Return the socket that each index reaches."""
    return [reached(world, Datagram(Family.IPV4, 20000 + index, index)) for index in range(number)]


def members(world: World, number: int) -> list[int]:
    group = world.sockets[number].group
    assert group is not None
    return [made.number for made in group.members]


def test_members_stand_in_the_order_of_bind_and_the_last_fills_a_hole() -> None:
    world = world_after(*map(Open, range(5)), Attach(3), Close(1))
    assert places(world, 4) == [0, 4, 2, 3]


def test_growth_keeps_what_a_group_has() -> None:
    world = world_after(Open(0), Attach(0), Crowd())
    group = world.sockets[0].group
    assert group is not None
    assert (group.room, group.program, group.bind_inany) == (256, Program.PLACE, True)
    assert reached(world, Datagram(Family.IPV4, 20000, CROWD)) == CROWDED + CROWD - 1


def test_crowd_comes_beside_a_socket_that_is_there_and_goes() -> None:
    world = World(Behaviour())
    assert Crowd().apply(world) is None
    assert [step.apply(world) for step in (Open(0, specific=True), Crowd(), Crowd(specific=True))] == [0, None, 0]
    assert len(world.sockets) == 1 + CROWD
    assert Crowd(specific=True).apply(world) == 0
    assert list(world.sockets) == [0]


@pytest.mark.parametrize(
    "other",
    [
        Open(1, Family.IPV6),
        Open(1, specific=True),
        Open(1, device=True),
        Open(1, Family.IPV6, v6only=True),
    ],
    ids=spelled,
)
def test_sockets_that_differ_form_two_groups(other: Step) -> None:
    world = world_after(Open(0), other)
    assert world.sockets[0].group is not world.sockets[1].group


@pytest.mark.parametrize("other", [Open(1, user=OTHER_USER), Open(1, reuseport=False)], ids=spelled)
def test_port_is_not_shared_with_everyone(other: Step) -> None:
    assert answer(world_after(Open(0)), other) == "EADDRINUSE"


def test_socket_with_a_program_of_its_own_cannot_share_its_port() -> None:
    assert answer(world_after(Open(0), Open(1, bind=False), Attach(1)), Bind(1)) == "EADDRINUSE"


@pytest.mark.parametrize("specific", [False, True])
def test_connected_socket_hears_its_peer_alone(specific: bool) -> None:
    for release in ((5, 10, 0), (6, 12, 0), (6, 18, 0)):
        world = world_after(
            *(Open(number, specific=specific) for number in range(3)), Connect(1), like=behaviour(release, ())
        )
        assert reached(world, Datagram(Family.IPV4, 555, 0)) == 1
        assert {reached(world, STRANGER, (hash_ << 30, hash_ << 30)) for hash_ in range(4)} == {0, 2}


def test_connect_takes_a_socket_on_an_address_out_of_group_and_slot_since_the_four_tuple_hash() -> None:
    history = (Open(0, specific=True), Open(1, specific=True), Fill(1, 3), Connect(1))
    before, since = (world_after(*history, like=behaviour(release, ())) for release in ((6, 12, 0), (6, 13, 0)))
    assert (members(before, 0), list(before.slots)) == ([0, 1], [3])
    assert (members(since, 0), list(since.slots)) == ([0], [])


def test_connect_takes_a_socket_on_the_wildcard_out_of_its_group() -> None:
    world = world_after(Open(0), Open(1), Connect(1), like=behaviour((5, 10, 0), ()))
    assert world.sockets[1].group is None
    assert world.sockets[1].specific


def test_young_group_has_a_connected_member() -> None:
    """The connected socket has the address that the new one binds to, and becomes the group's first member."""
    world = world_after(Open(0), Connect(0), Open(1, specific=True))
    assert members(world, 1) == [0, 1]


def test_disconnecting_over_ipv6_leaves_the_address_of_the_peer() -> None:
    for family, found in ((Family.IPV4, 0), (Family.IPV6, None)):
        world = world_after(Open(0, family), Connect(0), Disconnect(0))
        assert reached(world, Datagram(family, 555, 0, from_peer=False)) == found


def test_program_that_drops_is_final() -> None:
    assert reached(world_after(Open(0), Open(1, specific=True), Attach(1, Program.DROP))) is None


def test_slots_are_what_the_program_selects_from() -> None:
    world = world_after(Open(0), Open(1), Attach(0, Program.SLOT), Fill(1, 0), Fill(0, 2))
    assert places(world, 4) == [1, None, 0, None]
    assert answer(world, Fill(1, 4)) == "EBUSY"
    assert answer(world, Fill(1, 8)) == "E2BIG"
    assert answer(world, Fill(1, 2, BPF_NOEXIST)) == "EEXIST"
    assert answer(world, Fill(1, 5, BPF_EXIST)) == "ENOENT"
    assert answer(world, Empty(5)) == "ENOENT"
    assert answer(world, Close(1)) == ""
    assert list(world.slots) == [2]


def test_detaching_needs_a_program_and_a_group() -> None:
    world = world_after(Open(0), Open(1, bind=False), Open(2, bind=False), SetReuseport(2, on=False))
    assert [answer(world, Detach(number)) for number in range(3)] == ["ENOENT", "ENOENT", "EINVAL"]


def test_socket_of_this_cpu_is_preferred() -> None:
    world = world_after(Open(0), Open(1), Open(2), SetCpu(1, 0))
    assert {reached(world, STRANGER, (hash_ << 30, 0)) for hash_ in range(4)} == {1}
    without = world_after(*map(Open, range(3)), SetCpu(1, 0), like=Behaviour(cpu_in_score_only=True))
    assert {reached(without, STRANGER, (hash_ << 30, 0)) for hash_ in range(4)} == {0, 1, 2}


def test_k24_is_a_variation() -> None:
    history = (Open(0, device=True), Open(1))
    assert reached(world_after(*history)) == 0
    assert reached(world_after(*history, like=Behaviour(first_group_wins=True))) == 1


def test_k27_is_a_variation() -> None:
    history = (Open(0), Connect(0), Connect(0, 556), Open(1, specific=True))
    packet = Datagram(Family.IPV4, 556, 0)
    assert reached(world_after(*history), packet) == 0
    like = Behaviour(forgets_new_peer=True, first_group_wins=True)
    assert reached(world_after(*history, like=like), packet) == 1


def test_k15_is_a_variation() -> None:
    crowd = [Open(number, specific=True, user=OTHER_USER) for number in range(11)]
    assert answer(world_after(*crowd), Open(11)) == "EADDRINUSE"
    assert answer(world_after(*crowd, like=Behaviour(wildcard_in_its_chain=True)), Open(11)) == ""


def test_every_bug_that_the_model_knows_is_a_field() -> None:
    assert all(behaviour((6, 18, 44), [name]) != behaviour((6, 18, 44), ()) for name in BY_BUG)


def listeners(world: World, number: int) -> Sequence[Socket]:
    made = [Socket(each, Protocol.TCP, Family.IPV4, reuseport=True) for each in range(number)]
    groups.alloc(world, made[0], bind_inany=True)
    for other in made[1:]:
        groups.add(world, other, made[0], bind_inany=True)
    return made


def numbers(group: Group) -> tuple[list[int], list[int]]:
    return [made.number for made in group.members], [made.number for made in group.closed]


def test_listener_that_may_migrate_waits_in_the_closed_section_and_comes_back_at_the_end() -> None:
    world = World(Behaviour())
    made = listeners(world, 4)
    group = made[0].group
    assert group is not None
    for each in (made[1], made[0]):
        groups.stop_listening(world, each, may_migrate=True)
    assert numbers(group) == ([2, 3] if group.members[0].number == 2 else [3, 2], [1, 0])
    groups.add(world, made[1], made[2], bind_inany=True)
    assert numbers(group)[0][-1] == 1
    assert numbers(group)[1] == [0]


def test_listener_that_is_alone_again_begins_a_new_group() -> None:
    world = World(Behaviour())
    (made,) = listeners(world, 1)
    old = made.group
    groups.stop_listening(world, made, may_migrate=True)
    groups.alloc(world, made, bind_inany=True)
    assert made.group is not old
    assert made.group is not None
    assert numbers(made.group) == ([0], [])


def test_listener_that_may_not_migrate_leaves() -> None:
    world = World(Behaviour())
    made = listeners(world, 2)
    groups.stop_listening(world, made[0], may_migrate=False)
    assert made[0].group is None


@given(strategies.lists(strategies.integers(0, NUMBERS_OF_STEPS - 1), max_size=40))
def test_any_history_keeps_the_tables_consistent(codes: list[int]) -> None:
    """Nothing is in a table twice or in vain, and every transition has a name that campaigns know."""
    world = World(behaviour((6, 18, 44), ["K24", "K27"]), has_sockmap=True)
    for code in codes:
        step_of(code).apply(world)
        for family in Family:
            Lookup(world, Datagram(family, 555, 0), HASHES).receiver()
    hashed = {made.number for made in world.sockets.values() if made.hashed}
    chains = [*world.wild, *world.ipv4, *world.ipv6]
    assert {made.number for made in chains} == hashed == {made.number for made in world.primary}
    assert len(chains) == len(hashed) == len(world.primary)
    for made in world.sockets.values():
        assert made.group is None or made.group.members.count(made) == 1
        assert made.slot is None or world.sockarrays[made.slot[0]][made.slot[1]] is made
    there = [*world.sockets.values(), *world.foreign.values()]
    assert all(made in there and made.slot is None for made in world.sockmap.values())
    assert set(world.taken) <= set(TRANSITIONS)


def test_swapped_sockarray_has_its_own_slots() -> None:
    """A socket is in one of the two alone, and is forgotten by it even while the other one is in the outer map."""
    world = world_after(Open(0), Open(1), Attach(0, Program.SLOT), Fill(0, 3))
    third = Datagram(Family.IPV4, 20000, 3)
    assert reached(world, third) == 0
    assert Swap().apply(world) == 0
    assert reached(world, third) is None
    assert answer(world, Fill(0, 5)) == "EBUSY"
    assert Fill(1, 3).apply(world) == 0
    assert reached(world, third) == 1
    assert Close(0).apply(world) == 0
    assert Swap().apply(world) == 0
    assert not world.slots
    assert Withdraw().apply(world) == 0
    assert answer(world, Withdraw()) == "ENOENT"
    lookup = Lookup(world, third, HASHES)
    assert (lookup.receiver(), lookup.results) == (None, (Result.DROP_ERR_INNER_MAP,))


def test_heirs_are_the_members_that_are_left() -> None:
    """Those of the CPU that the listener closes on, if SO_INCOMING_CPU counts; nobody where nothing migrates."""
    world = World(Behaviour(), Protocol.TCP, migrates=True)
    for step in (Open(0), Open(1), Open(2)):
        assert step.apply(world) == 0
    group = world.sockets[0].group
    assert group is not None
    assert Leave(0).apply(world) == 0
    assert {heir.number for heir in heirs(world, group)} == {1, 2}
    assert SetCpu(1, THIS_CPU).apply(world) == 0
    assert [heir.number for heir in heirs(world, group)] == [1]
    world.migrates = False
    assert heirs(world, group) == []
    assert Leave(0).apply(world) is None
    assert Leave(1).apply(world_after(Open(1))) is None  # of UDP


def test_transitions_that_were_not_taken_are_named() -> None:
    assert not_taken(dict.fromkeys(TRANSITIONS[1:], 1)) == [TRANSITIONS[0]]


@given(strategies.lists(strategies.integers(0, NUMBERS_OF_STEPS - 1), max_size=20))
def test_history_survives_json_and_python(codes: list[int]) -> None:
    history = tuple(map(step_of, codes))
    assert from_json(to_json(history)) == history
    names = {kind.__name__: kind for kind in (*map(type, history), Family, Kind, Program)}
    assert tuple(eval(spelled(step), names) for step in history) == history


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ({}, "no list"),
        ([["Dance", 1]], "step 1, .* is none of"),
        ([["Close", 1], ["Close"]], "step 2, .* has 1 fields"),
        ([["Close", "one"]], "no number"),
        ([["Attach", 0, "mine"]], "mine"),
        ([["SetReuseport", 0, 1]], "neither true nor false"),
    ],
)
def test_damaged_steps_are_refused(rows: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        from_json(rows)
