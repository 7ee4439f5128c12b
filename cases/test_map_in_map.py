# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The outer map: which inner maps it takes, and what an exchange of the inner map means for packets.

Once an update or a delete of the outer map has returned, no packet is decided by the old inner map any more.
"""

from __future__ import annotations

import errno
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family, each_protocol, promise, requires
from harness.kernel.refusal import refused
from harness.loader.maps import create_map, create_outer_map
from harness.model.abi import native_bytes
from harness.model.layout import Family, Protocol
from harness.model.uapi import SO_RCVBUFFORCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import AttachReference, Bench, LoadProgram
    from harness.loader.maps import Map


each_kind = pytest.mark.parametrize("kind", ["array_of_maps", "hash_of_maps"])


@pytest.fixture
def template(bench: Bench) -> Iterator[Map]:
    """Return a sockarray of four slots, the template of the outer maps here."""
    with closing(create_map("sockarray", max_entries=4)) as made:
        yield made


def insert(outer: Map, inner: Map) -> None:
    """Put an inner map into the outer map's first slot."""
    outer.put(0, inner.fd)


@promise("outer.alike")
@each_kind
def test_inner_map_like_the_template_is_taken(template: Map, kind: str) -> None:
    """An outer map takes its template and every map like it."""
    with closing(create_outer_map(template, kind=kind)) as outer:
        insert(outer, template)
        with closing(create_map("sockarray", max_entries=4)) as alike:
            insert(outer, alike)


@promise("outer.unlike")
@each_kind
@pytest.mark.parametrize(("inner", "value_size"), [("sockarray", 4), ("array", 8), ("hash", 8), ("sockmap", 8)])
def test_inner_map_unlike_the_template_is_refused(template: Map, kind: str, inner: str, value_size: int) -> None:
    """An inner map has to have the type, key size, value size and flags of the outer map's template: else EINVAL."""
    with (
        closing(create_outer_map(template, kind=kind)) as outer,
        closing(create_map(inner, value_size=value_size, max_entries=4)) as unlike,
        refused(errno.EINVAL),
    ):
        insert(outer, unlike)


@promise("outer.size-free")
@requires("free_inner_size")
@each_kind
@pytest.mark.parametrize("size", [1, 3, 5, 1000])
def test_inner_map_may_have_another_size(template: Map, kind: str, size: int) -> None:
    """An inner map may have another number of slots than the template (134fede4eecf, Linux 5.10)."""
    with (
        closing(create_outer_map(template, kind=kind)) as outer,
        closing(create_map("sockarray", max_entries=size)) as inner,
    ):
        insert(outer, inner)


@promise("outer.not-a-map")
@each_kind
def test_descriptor_of_something_else_is_refused(bench: Bench, template: Map, kind: str) -> None:
    """An outer map refuses a closed descriptor with EBADF, a socket with EINVAL."""
    with closing(create_outer_map(template, kind=kind)) as outer:
        with refused(errno.EBADF):
            outer.put(0, 1 << 20)
        with refused(errno.EINVAL):
            outer.put(0, bench[bench.open()].fileno())


@promise("outer.nested")
def test_maps_of_maps_do_not_nest(template: Map) -> None:
    """An outer map is no inner map: EINVAL."""
    with closing(create_outer_map(template)) as outer, refused(errno.EINVAL):
        create_outer_map(outer)


@promise("outer.fd-closed")
@each_protocol
@each_family
def test_inner_map_lives_while_the_outer_holds_it(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, family: Family
) -> None:
    """The inner map's descriptor may be closed: what is in it stays selectable."""
    members = bench.group(2, protocol, family)
    program = load_for_test("reference", size=2)
    bench.attach(members[0], program)
    with closing(create_map("sockarray", max_entries=2)) as other:
        bench.fill(other, members)
        insert(program.maps["outer_map"], other)
    packets = [bench.packet(index, protocol, family) for index in (0, 1)]
    assert bench.send_and_find_each(packets) == members


@promise("outer.delete-keeps-inner")
@each_protocol
def test_taking_an_inner_map_out_does_not_empty_it(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol
) -> None:
    """An inner map that is taken out of the outer one and put back holds what it held."""
    members = bench.group(2, protocol)
    program = attach_reference(members)
    program.withdraw_inner()
    assert bench.send_and_find(bench.packet(1, protocol)) is None
    assert program.inner is not None
    assert program.inner.at(1) == native_bytes(bench.cookie(members[1]), 8)
    program.insert_inner_map()
    assert bench.send_and_find(bench.packet(1, protocol)) == members[1]


@promise("outer.swap")
@each_protocol
@each_family
def test_swap_is_complete_when_it_returns(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol, family: Family
) -> None:
    """Each exchange of the inner map counts for every packet that is sent after it, and for none before."""
    members = bench.group(4, protocol, family)
    program = attach_reference(members[:2])
    assert program.inner is not None
    with closing(create_map("sockarray", max_entries=2)) as other:
        bench.fill(other, members[2:])
        for _ in range(5):
            for inner, expected in ((other, members[2:]), (program.inner, members[:2])):
                insert(program.maps["outer_map"], inner)
                packets = [bench.packet(index, protocol, family) for index in (0, 1, 1, 0)]
                assert bench.send_and_find_each(packets) == [*expected, *reversed(expected)]


@promise("outer.swap-under-traffic")
@each_family
def test_swap_under_traffic_shows_no_mixture(bench: Bench, attach_reference: AttachReference, family: Family) -> None:
    """Datagrams that are on their way while inner maps are exchanged reach the old or the new member; none is lost.

    The sender runs in a process of its own, so that packets arrive between the halves of an update.
    """
    old, new = members = bench.group(2, Protocol.UDP, family)
    for number in members:
        bench.set_option(number, SO_RCVBUFFORCE, 1 << 21)  # nobody reads meanwhile
    sent = 600
    program = attach_reference([old])
    assert program.inner is not None
    with closing(create_map("sockarray", max_entries=1)) as other:
        bench.fill(other, [new])
        with bench.sending_meanwhile(bench.packets(sent, 0, Protocol.UDP, family)) as still_sending:
            swaps = 0
            while still_sending() or swaps < 2:
                insert(program.maps["outer_map"], other if swaps % 2 == 0 else program.inner)
                swaps += 1
        assert sum(len(data) for data in bench.read().values()) == sent


@promise("outer.clear-slot-under-traffic")
@each_protocol
def test_slot_that_was_cleared_is_not_selected(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol
) -> None:
    """Once the delete of a slot returned, no packet finds the member there; once an update returned, each does."""
    members = bench.group(2, protocol)
    program = attach_reference(members)
    for _ in range(10):
        bench.clear_slot(program.inner, 1)
        assert bench.send_and_find(bench.packet(1, protocol)) is None
        bench.fill(program.inner, members[1:], first=1)
        assert bench.send_and_find(bench.packet(1, protocol)) == members[1]
