# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Unusual selections: two, two that fail, one of another group's socket, one that SK_DROP overrules, none."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.cases import in_sockarray, on_wildcard, place_by_hash, programs, promise
from harness.model.abi import Result, pack_indices
from harness.model.layout import GROUP_SIZE, Family, Protocol, Shape
from harness.model.outcome import Delivered, Dropped

if TYPE_CHECKING:
    from harness.cases import DeliverTo, Delivery, LoadProgram, MakeGroup, ReuseportGroup


EMPTY = 3
NO_SOCKET = Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@promise("select.twice")
@on_wildcard
@in_sockarray
@programs("select_twice")
def test_last_selection_that_succeeds_wins(group: ReuseportGroup, deliver: Delivery) -> None:
    """Of two selections the last that succeeds counts; one that fails keeps the first."""
    group.clear_slot(EMPTY)
    assert deliver(deliver.packet(pack_indices(4, 9))) == Delivered(9)
    assert deliver(deliver.packet(pack_indices(4, 4))) == Delivered(4)
    assert deliver(deliver.packet(pack_indices(4, EMPTY))) == Delivered(4)
    assert deliver(deliver.packet(pack_indices(EMPTY, 9))) == Delivered(9)
    assert deliver(deliver.packet(pack_indices(4, GROUP_SIZE))) == Delivered(4)


@promise("select.twice-foreign")
@on_wildcard
@in_sockarray
def test_selection_of_a_foreign_socket_keeps_the_first(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape
) -> None:
    """A second selection that is refused, for its socket is of another group, keeps the first."""
    foreign = make_group(shape, size=2)
    foreign.clear_slot(1)  # a socket is in one sockarray at a time
    group = make_group(shape, program="select_twice", size=4, slots=8)
    group.set_foreign(6, foreign.socket_of(1), error=-errno.EBADFD)
    deliver = delivery_to(group, foreign)
    assert deliver(deliver.packet(pack_indices(2, 6))) == Delivered(2)


@promise("select.twice-in-vain")
@on_wildcard
@in_sockarray
@programs("select_twice")
def test_two_failures_leave_the_choice_to_the_hash(group: ReuseportGroup, deliver: Delivery) -> None:
    """SK_PASS after two selections that failed leaves the choice to the hash, also where there is no map at all."""
    group.clear_slot(EMPTY)
    packets = [deliver.packet(pack_indices(EMPTY, GROUP_SIZE)), deliver.packet(pack_indices(1, 2))]
    selections = [deliver(packets[0])]
    group.withdraw_inner_map()
    selections.append(deliver(packets[1]))
    places = [place_by_hash(selection.hash, GROUP_SIZE) for selection in selections]
    assert selections == [Delivered(place, Result.PASS_ERR_SK_SELECT_REUSEPORT) for place in places]
    assert deliver(deliver.packet(bytes(7))) == Dropped(Result.DROP_ERR_SKB_DATA)


@promise("select.drop")
@on_wildcard
@programs("select_then_drop")
def test_verdict_overrules_the_selection(group: ReuseportGroup, deliver: Delivery) -> None:
    """SK_DROP drops, whatever was selected: ICMP port unreachable for UDP, RST for TCP."""
    for index in (0, 7, GROUP_SIZE - 1, GROUP_SIZE):
        assert deliver(deliver.command(index)) == Dropped(Result.DROP_MISC)
    group.clear_slot(EMPTY)
    assert deliver(deliver.command(EMPTY)) == Dropped(Result.DROP_MISC)
    assert deliver(deliver.packet(b"short")) == Dropped(Result.DROP_ERR_SKB_DATA)


@promise("select.pass-unselected")
@on_wildcard
@in_sockarray
@programs("always_pass")
def test_passing_without_a_selection_leaves_the_choice_to_the_hash(deliver: Delivery) -> None:
    """SK_PASS without a selection leaves the choice to the hash."""
    for _ in range(16):
        selection = deliver(deliver.packet(b"whatever"))
        assert selection == Delivered(place_by_hash(selection.hash, GROUP_SIZE))


@promise("select.other-verdict")
@on_wildcard
@in_sockarray
@programs("always_drop", "verdict_two", "verdict_minus_one")
def test_everything_but_sk_pass_drops(deliver: Delivery) -> None:
    """A program that returns anything but SK_PASS drops the packet: 0, 2 and -1 alike.

    The verifier limits the return value of programs of this type to no range: 2 and -1 load on 5.10 to 7.2.
    """
    for payload in (b"", b"whatever"):
        assert deliver(deliver.packet(payload)) == Dropped(Result.DROP_MISC)


@promise("select.one-level")
@on_wildcard
@programs("reference_direct")
def test_one_level_selects_as_two_do(group: ReuseportGroup, deliver: Delivery) -> None:
    """A program that names its map of sockets itself selects, drops and passes as one with an outer map does."""
    for index in range(GROUP_SIZE):
        assert deliver(deliver.command(index)) == Delivered(index)
    group.clear_slot(EMPTY)
    assert deliver(deliver.command(EMPTY)) == NO_SOCKET
    passed = deliver(deliver.command(EMPTY, pass_on_failure=True))
    assert passed == Delivered(place_by_hash(passed.hash, GROUP_SIZE), Result.PASS_ERR_SK_SELECT_REUSEPORT)
    assert deliver(deliver.packet(b"short")) == Dropped(Result.DROP_ERR_SKB_DATA)
    group.override_index(9)
    assert deliver(deliver.command(2)) == Delivered(9)


@promise("select.by-port")
@on_wildcard
def test_destination_port_finds_the_group(
    make_group: MakeGroup, delivery_to: DeliverTo, load_for_test: LoadProgram, shape: Shape
) -> None:
    """One program may serve several groups, each with an inner map of its own under its port in the outer map."""
    program = load_for_test("by_port_group", inner_map=shape.inner_map, size=8)
    groups = [make_group(shape, program=program, size=8) for _ in range(3)]
    delivers = [delivery_to(group, *(other for other in groups if other is not group)) for group in groups]
    for deliver in delivers:
        for index in (0, 5, 7):
            assert deliver(deliver.command(index)) == Delivered(index)
    first, second = delivers[:2]
    groups[0].withdraw_inner_map()
    assert first(first.command(5)) == Dropped(Result.DROP_ERR_INNER_MAP)
    assert second(second.command(5)) == Delivered(5)
    groups[1].clear_slot(5)
    assert second(second.command(5)) == NO_SOCKET
    assert second(second.packet(b"short")) == Dropped(Result.DROP_ERR_SKB_DATA)
    first.reset_connections()
    groups[0].restore()
    assert first(first.command(5)) == Delivered(5)


@promise("select.foreign")
@on_wildcard
@in_sockarray
@pytest.mark.parametrize(
    ("changed", "number"),
    [
        ("", errno.EBADFD),
        ("protocol", errno.EPROTOTYPE),
        ("family", errno.EAFNOSUPPORT),
        ("protocol and family", errno.EPROTOTYPE),
    ],
    ids=["group", "protocol", "family", "both"],
)
def test_socket_of_another_group_cannot_be_selected(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape, changed: str, number: int
) -> None:
    """Selecting a socket of another group is EBADFD, of another protocol EPROTOTYPE, of another family EAFNOSUPPORT.

    The packet is dropped, or left to the hash over the group's own members; the foreign socket gets nothing.
    """
    elsewhere = shape
    if "protocol" in changed:
        elsewhere = replace(elsewhere, protocol=next(each for each in Protocol if each is not shape.protocol))
    if "family" in changed:
        elsewhere = replace(elsewhere, family=next(each for each in Family if each is not shape.family))
    foreign = make_group(elsewhere, size=2)
    foreign.clear_slot(1)  # a socket is in one sockarray at a time
    group = make_group(shape, size=4, slots=8)
    group.set_foreign(6, foreign.socket_of(1), error=-number)
    deliver = delivery_to(group, foreign)
    assert deliver(deliver.command(6)) == NO_SOCKET
    passed = deliver(deliver.command(6, pass_on_failure=True))
    assert passed == Delivered(place_by_hash(passed.hash, 4), Result.PASS_ERR_SK_SELECT_REUSEPORT)
    assert deliver(deliver.command(2)) == Delivered(2)
