# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a selection comes to: twice, in vain, of a socket that is no member, overruled by the verdict, or none."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.model.abi import Result, pack_indices
from harness.model.expect import reciprocal_scale
from harness.model.layout import GROUP_SIZE, Bind, Family, InnerMap, Protocol, Shape
from harness.model.outcome import Delivered, Dropped

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.group.delivery import Delivery
    from harness.group.reuseport_group import ReuseportGroup
    from harness.loader.program import Program

    MakeGroup = Callable[..., ReuseportGroup]
    DeliveryTo = Callable[..., Delivery]
    Load = Callable[..., Program]

every_kind = pytest.mark.shapes(bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)
EMPTY = 3
NOBODY_THERE = Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)
_EBADFD = 77


@pytest.mark.promise("select.twice")
@every_kind
@pytest.mark.programs("select_twice")
def test_last_selection_that_succeeds_wins(group: ReuseportGroup, deliver: Delivery) -> None:
    """A second success replaces the first; a second failure takes nothing from it."""
    group.clear_slot(EMPTY)
    assert deliver(deliver.packet(pack_indices(4, 9))) == Delivered(9)
    assert deliver(deliver.packet(pack_indices(4, 4))) == Delivered(4)
    assert deliver(deliver.packet(pack_indices(4, EMPTY))) == Delivered(4)
    assert deliver(deliver.packet(pack_indices(EMPTY, 9))) == Delivered(9)
    assert deliver(deliver.packet(pack_indices(4, GROUP_SIZE))) == Delivered(4)


@every_kind
@pytest.mark.programs("select_twice")
def test_two_failures_leave_the_choice_to_the_hash(group: ReuseportGroup, deliver: Delivery) -> None:
    """SK_PASS after nothing but failures is SK_PASS without a selection."""
    group.clear_slot(EMPTY)
    verdict = deliver(deliver.packet(pack_indices(EMPTY, GROUP_SIZE)))
    assert verdict.hash is not None
    expected = Delivered(reciprocal_scale(verdict.hash, GROUP_SIZE), Result.PASS_ERR_SK_SELECT_REUSEPORT)
    assert verdict == expected
    group.withdraw_inner_map()
    assert isinstance(deliver(deliver.packet(pack_indices(1, 2))), Delivered)
    assert deliver(deliver.packet(bytes(7))) == Dropped(Result.DROP_ERR_SKB_DATA)


@pytest.mark.promise("select.drop")
@pytest.mark.shapes(bind=Bind.ANY)
@pytest.mark.programs("select_then_drop")
def test_verdict_overrules_the_selection(group: ReuseportGroup, deliver: Delivery) -> None:
    """SK_DROP drops, though the helper had answered 0; nothing of the packet reaches the socket that was selected."""
    for index in (0, 7, GROUP_SIZE - 1, GROUP_SIZE):
        assert deliver(deliver.command(index)) == Dropped(Result.DROP_MISC)
    group.clear_slot(EMPTY)
    assert deliver(deliver.command(EMPTY)) == Dropped(Result.DROP_MISC)
    assert deliver(deliver.packet(b"short")) == Dropped(Result.DROP_ERR_SKB_DATA)


@pytest.mark.promise("select.pass-unselected")
@every_kind
@pytest.mark.programs("always_pass")
def test_passing_without_a_selection_leaves_the_choice_to_the_hash(deliver: Delivery) -> None:
    """The program ran and was counted, and yet the hash decides, as if there were none."""
    for _ in range(16):
        verdict = deliver(deliver.packet(b"whatever"))
        assert verdict.hash is not None
        assert verdict == Delivered(reciprocal_scale(verdict.hash, GROUP_SIZE))


@pytest.mark.promise("select.other-verdict")
@every_kind
@pytest.mark.programs("always_drop", "verdict_two", "verdict_minus_one")
def test_everything_but_sk_pass_drops(deliver: Delivery) -> None:
    """0, 2 and -1 are no SK_PASS (net/core/filter.c `bpf_run_sk_reuseport`).

    The verifier holds programs of this type to no range: 2 and -1 load on 5.10, 6.1, 6.12, 6.18 and 7.2.
    """
    for payload in (b"", b"whatever"):
        assert deliver(deliver.packet(payload)) == Dropped(Result.DROP_MISC)


@pytest.mark.shapes(bind=Bind.ANY)
@pytest.mark.programs("reference_direct")
def test_one_level_selects_as_two_do(group: ReuseportGroup, deliver: Delivery) -> None:
    """A program that names its map of sockets itself selects, drops and passes as the one with an outer map does."""
    for index in range(GROUP_SIZE):
        assert deliver(deliver.command(index)) == Delivered(index)
    group.clear_slot(EMPTY)
    assert deliver(deliver.command(EMPTY)) == NOBODY_THERE
    assert deliver(deliver.command(EMPTY, pass_on_failure=True)).result is Result.PASS_ERR_SK_SELECT_REUSEPORT
    assert deliver(deliver.packet(b"short")) == Dropped(Result.DROP_ERR_SKB_DATA)
    group.override_index(9)
    assert deliver(deliver.command(2)) == Delivered(9)


@pytest.mark.shapes(bind=Bind.ANY)
def test_destination_port_finds_the_group(
    make_group: MakeGroup, delivery_to: DeliveryTo, load_for_test: Load, shape: Shape
) -> None:
    """Two levels: one program serves several groups, each with a map of its own under its port in the outer map."""
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
    assert second(second.command(5)) == NOBODY_THERE
    assert second(second.packet(b"short")) == Dropped(Result.DROP_ERR_SKB_DATA)
    first.finish()
    groups[0].restore()
    assert first(first.command(5)) == Delivered(5)


@every_kind
@pytest.mark.parametrize(
    ("changed", "number"),
    [("", _EBADFD), ("protocol", errno.EPROTOTYPE), ("family", errno.EAFNOSUPPORT)],
    ids=["group", "protocol", "family"],
)
def test_socket_of_another_group_cannot_be_selected(
    make_group: MakeGroup, delivery_to: DeliveryTo, shape: Shape, changed: str, number: int
) -> None:
    """The helper says what is foreign: the group (EBADFD), the protocol (EPROTOTYPE), the family (EAFNOSUPPORT).

    The packet is dropped, or passed on to the hash over the group's own members; the foreign socket gets nothing.
    """
    elsewhere = shape
    if changed == "protocol":
        elsewhere = replace(shape, protocol=next(each for each in Protocol if each is not shape.protocol))
    if changed == "family":
        elsewhere = replace(shape, family=next(each for each in Family if each is not shape.family))
    foreign = make_group(elsewhere, size=2)
    foreign.clear_slot(1)  # a socket is in one sockarray at a time
    group = make_group(shape, size=4, slots=8)
    group.set_foreign(6, foreign.socket_of(1), error=-number)
    deliver = delivery_to(group, foreign)
    assert deliver(deliver.command(6)) == NOBODY_THERE
    assert deliver(deliver.command(6, pass_on_failure=True)).result is Result.PASS_ERR_SK_SELECT_REUSEPORT
    assert deliver(deliver.command(2)) == Delivered(2)
