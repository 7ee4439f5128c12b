# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The outer map: which inner maps it takes, and what an exchange of the inner map means for packets.

Once an update or a delete of the outer map returned, no packet is decided by the old inner map any more.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from harness.kernel.refusal import refused
from harness.loader.maps import create_map, create_outer_map
from harness.model.layout import Family, Protocol
from harness.model.uapi import SO_RCVBUFFORCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.group.bench import Bench
    from harness.loader.maps import Map
    from harness.loader.program import Program

promise = pytest.mark.promise
both = pytest.mark.parametrize("protocol", Protocol)
families = pytest.mark.parametrize("family", Family)

ONLY = struct.pack("=I", 0)
OUTER = {"array_of_maps", "hash_of_maps"}


@pytest.fixture
def template(bench: Bench) -> Iterator[Map]:
    """Return a sockarray of four slots, the template of the outer maps here."""
    with closing(create_map("sockarray", max_entries=4)) as made:
        yield made


def insert(outer: Map, inner: Map) -> None:
    """Put an inner map into the outer map's first slot."""
    outer.update(ONLY, struct.pack("=I", inner.fd))


@promise("outer.alike")
@pytest.mark.parametrize("kind", sorted(OUTER))
def test_inner_map_like_the_template_is_taken(template: Map, kind: str) -> None:
    """The template itself and every map like it go in."""
    with closing(create_outer_map(template, kind=kind)) as outer:
        insert(outer, template)
        with closing(create_map("sockarray", max_entries=4)) as alike:
            insert(outer, alike)


@promise("outer.unlike")
@pytest.mark.parametrize("kind", sorted(OUTER))
@pytest.mark.parametrize(("inner", "value_size"), [("sockarray", 4), ("array", 8), ("hash", 8), ("sockmap", 8)])
def test_inner_map_unlike_the_template_is_refused(template: Map, kind: str, inner: str, value_size: int) -> None:
    """Type, key size, value size and flags have to be the template's."""
    with (
        closing(create_outer_map(template, kind=kind)) as outer,
        closing(create_map(inner, value_size=value_size, max_entries=4)) as unlike,
        refused(errno.EINVAL),
    ):
        insert(outer, unlike)


@promise("outer.size-free")
@pytest.mark.requires("free_inner_size")
@pytest.mark.parametrize("kind", sorted(OUTER))
@pytest.mark.parametrize("size", [1, 3, 5, 1000])
def test_inner_map_may_have_another_size(template: Map, kind: str, size: int) -> None:
    """The number of slots need not be the template's (134fede4eecf, Linux 5.10)."""
    with (
        closing(create_outer_map(template, kind=kind)) as outer,
        closing(create_map("sockarray", max_entries=size)) as inner,
    ):
        insert(outer, inner)


@promise("outer.not-a-map")
@pytest.mark.parametrize("kind", sorted(OUTER))
def test_descriptor_of_something_else_is_refused(bench: Bench, template: Map, kind: str) -> None:
    """A closed descriptor is EBADF, a socket EINVAL."""
    with closing(create_outer_map(template, kind=kind)) as outer:
        with refused(errno.EBADF):
            outer.update(ONLY, struct.pack("=I", 1 << 20))
        with refused(errno.EINVAL):
            outer.update(ONLY, struct.pack("=I", bench[bench.open()].fileno()))


@promise("outer.nested")
def test_maps_of_maps_do_not_nest(template: Map) -> None:
    """An outer map is no inner map."""
    with closing(create_outer_map(template)) as outer, refused(errno.EINVAL):
        create_outer_map(outer)


@promise("outer.fd-closed")
@both
@families
def test_inner_map_lives_while_the_outer_holds_it(
    bench: Bench, load_program: Callable[..., Program], protocol: Protocol, family: Family
) -> None:
    """The inner map's descriptor may be closed: what is in it stays selectable."""
    members = bench.group(2, protocol, family)
    with load_program("reference", size=2) as program:
        bench.attach(members[0], program)
        with closing(create_map("sockarray", max_entries=2)) as other:
            bench.fill(other, members)
            insert(program.maps["outer_map"], other)
        packets = [bench.packet(index, protocol, family) for index in (0, 1)]
        assert bench.send_and_find_each(packets) == members


@promise("outer.delete-keeps-inner")
@both
def test_taking_an_inner_map_out_does_not_empty_it(
    bench: Bench, load_program: Callable[..., Program], protocol: Protocol
) -> None:
    """An inner map that is taken out and put back holds what it held."""
    members = bench.group(2, protocol)
    with load_program("reference", size=2) as program:
        bench.attach(members[0], program)
        bench.fill(program.inner, members)
        program.withdraw_inner()
        assert bench.send_and_find(bench.packet(1, protocol)) is None
        assert program.inner is not None
        assert program.inner.lookup(struct.pack("=I", 1)) == struct.pack("=Q", bench.cookie(members[1]))
        program.insert_inner_map()
        assert bench.send_and_find(bench.packet(1, protocol)) == members[1]


@promise("outer.swap")
@both
@families
def test_swap_is_complete_when_it_returns(
    bench: Bench, load_program: Callable[..., Program], protocol: Protocol, family: Family
) -> None:
    """Each exchange of the inner map counts for every packet that is sent after it, and for none before."""
    members = bench.group(4, protocol, family)
    with load_program("reference", size=2) as program, closing(create_map("sockarray", max_entries=2)) as other:
        assert program.inner is not None
        bench.attach(members[0], program)
        bench.fill(program.inner, members[:2])
        bench.fill(other, members[2:])
        for _ in range(5):
            for inner, expected in ((other, members[2:]), (program.inner, members[:2])):
                insert(program.maps["outer_map"], inner)
                packets = [bench.packet(index, protocol, family) for index in (0, 1, 1, 0)]
                assert bench.send_and_find_each(packets) == [*expected, *reversed(expected)]


@promise("outer.swap-under-traffic")
@families
def test_swap_under_traffic_shows_no_mixture(
    bench: Bench, load_program: Callable[..., Program], family: Family
) -> None:
    """Datagrams that are on their way while inner maps are exchanged go to the old or the new member, never astray.

    The sender runs in a process of its own, so that packets arrive between the halves of an update.
    """
    old, new = members = bench.group(2, Protocol.UDP, family)
    for number in members:
        bench[number].setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 21)  # nobody reads meanwhile
    sent = 600
    with load_program("reference", size=1) as program, closing(create_map("sockarray", max_entries=1)) as other:
        assert program.inner is not None
        bench.attach(old, program)
        bench.fill(program.inner, [old])
        bench.fill(other, [new])
        with bench.stream(bench.packets(sent, 0, Protocol.UDP, family)) as going:
            swaps = 0
            while going() or swaps < 2:
                insert(program.maps["outer_map"], other if swaps % 2 == 0 else program.inner)
                swaps += 1
        held = bench.read()
        assert sum(len(data) for data in held.values()) == sent
        assert set(held) <= {old, new}


@promise("outer.clear-slot-under-traffic")
@both
def test_slot_that_was_cleared_is_not_selected(
    bench: Bench, load_program: Callable[..., Program], protocol: Protocol
) -> None:
    """Once the delete of a slot returned, no packet finds the member there; once an update returned, each does."""
    members = bench.group(2, protocol)
    with load_program("reference", size=2) as program:
        bench.attach(members[0], program)
        bench.fill(program.inner, members)
        assert program.inner is not None
        for _ in range(10):
            program.inner.delete(struct.pack("=I", 1))
            assert bench.send_and_find(bench.packet(1, protocol)) is None
            bench.fill(program.inner, members[1:], first=1)
            assert bench.send_and_find(bench.packet(1, protocol)) == members[1]
