# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The model's sockmap, and the foreign sockets in its sockarray: what the kernel's source says of them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.model.abi import Result
from harness.model.layout import Family, Protocol
from harness.model.life.behaviour import Behaviour
from harness.model.life.datagram import Datagram
from harness.model.life.foreign import Foreign, Kind, LinkConnection
from harness.model.life.listening import lookup
from harness.model.life.requests import is_silent
from harness.model.life.slots import ENOTSUPP
from harness.model.life.sockmap import Link, LinkKey, Unlink, UnlinkKey
from harness.model.life.state import Program, World
from harness.model.life.steps import Attach, Close, Connect, Fill, Open, Shutdown
from harness.model.uapi import BPF_EXIST, BPF_NOEXIST

if TYPE_CHECKING:
    from harness.model.life.steps import Step


def world_after(
    *history: Step, protocol: Protocol = Protocol.UDP, like: Behaviour | None = None, has_sockmap: bool = True
) -> World:
    migrates = protocol is Protocol.TCP
    world = World(like or Behaviour(), protocol, migrates, has_sockmap=has_sockmap)
    for step in history:
        assert step.apply(world) == 0, f"{step} is refused"
    return world


def reached(world: World, index: int) -> tuple[int | None, tuple[Result, ...]]:
    found = lookup(world, Datagram(Family.IPV4, 20000 + index, index), (0, 0))
    receiver = found.receiver()
    return None if receiver is None else receiver.number, found.results


SELECTED, REFUSED = (Result.PASS,), (Result.DROP_ERR_SK_SELECT_REUSEPORT,)


def test_sockmap_holds_a_socket_in_several_slots_until_it_closes() -> None:
    world = world_after(Open(0), Open(1), Attach(0, Program.MAP), Link(1, 2), Link(1, 5), Link(0, 2))
    assert [reached(world, index) for index in (2, 5, 6)] == [(0, SELECTED), (1, SELECTED), (None, REFUSED)]
    assert Close(1).apply(world) == 0
    assert list(world.sockmap) == [2]


def test_sockmap_refuses_what_the_kernel_refuses() -> None:
    world = world_after(Open(0), Open(1), Link(0, 3), Fill(1, 0))
    refusals = {
        Link(0, 8): errno.E2BIG,
        Link(1, 1): errno.EBUSY,
        Link(0, 3, BPF_NOEXIST): errno.EEXIST,
        Link(0, 4, BPF_EXIST): errno.ENOENT,
        Fill(0, 1): errno.EBUSY,
        Unlink(7): errno.EINVAL,
        Unlink(8): errno.EINVAL,
    }
    assert {step: step.apply(world) for step in refusals} == refusals
    assert Unlink(3).apply(world) == 0
    assert Fill(0, 1).apply(world) == 0


@pytest.mark.parametrize("protocol", Protocol)
def test_connection_in_a_sockmap_is_of_another_group(protocol: Protocol) -> None:
    world = world_after(Open(0), Attach(0, Program.MAP), Link(0, 1), LinkConnection(1), protocol=protocol)
    assert reached(world, 1) == (None, REFUSED)
    assert world.taken["sk_select_reuseport: a connection"] == 1
    assert Foreign(Kind.CONNECTION, 1).apply(world) == errno.EINVAL
    assert Close(0).apply(world) == 0
    assert [made.number for made in world.sockmap.values()] == [Kind.CONNECTION.number]


def test_connection_is_selected_neither_without_a_sockmap_nor_where_k12_is() -> None:
    assert LinkConnection().apply(world_after(has_sockmap=False)) is None
    assert LinkConnection().apply(world_after(like=Behaviour(keeps_selected_connection=True))) is None


def test_sockhash_holds_a_socket_at_several_keys_until_it_closes() -> None:
    world = world_after(Open(0), Open(1), Attach(0, Program.HASH), LinkKey(1, 2), LinkKey(1, 0), LinkKey(0, 2))
    assert [reached(world, index) for index in (2, 0, 1)] == [(0, SELECTED), (1, SELECTED), (None, REFUSED)]
    assert Link(1, 0).apply(world) == 0  # it is in the sockmap as well
    assert Close(1).apply(world) == 0
    assert (list(world.sockhash), list(world.sockmap)) == ([2], [])


def test_sockhash_refuses_what_the_kernel_refuses() -> None:
    """`sock_hash_update_common`, `sock_hash_alloc_elem`, `sock_hash_delete_elem`."""
    world = world_after(Open(0), Open(1), LinkKey(0, 0), LinkKey(0, 1), Fill(1, 0))
    refusals = {
        LinkKey(0, 3): errno.E2BIG,
        LinkKey(1, 3): errno.EBUSY,
        LinkKey(0, 1, BPF_NOEXIST): errno.EEXIST,
        LinkKey(0, 3, BPF_EXIST): errno.ENOENT,
        Fill(0, 1): errno.EBUSY,
        UnlinkKey(3): errno.ENOENT,
    }
    assert {step: step.apply(world) for step in refusals} == refusals
    assert [step.apply(world) for step in (LinkKey(0, 1), UnlinkKey(0), LinkKey(0, 3, BPF_NOEXIST))] == [0, 0, 0]
    assert [step.apply(world) for step in (*map(UnlinkKey, (1, 3)), Fill(0, 1))] == [0, 0, 0]


def test_kernel_without_a_sockmap_to_select_from_leaves_the_steps_out() -> None:
    world = world_after(Open(0), has_sockmap=False)
    assert [step.apply(world) for step in (Link(0), Unlink(), Attach(0, Program.MAP))] == [None] * 3


def test_socket_of_no_group_in_a_sockmap_is_refused() -> None:
    world = world_after(Open(0), Open(1), Attach(0, Program.MAP), Link(1, 1), Connect(1))
    assert reached(world, 1) == (None, REFUSED)


def test_k46_is_a_listener_that_is_shut_down_and_silent_in_a_sockmap() -> None:
    history = (Open(0), Open(1), Attach(0, Program.MAP), Link(0, 1), Shutdown(0))
    world = world_after(*history, protocol=Protocol.TCP, like=Behaviour(selects_what_is_shut_down=True))
    assert reached(world, 1) == (0, SELECTED)
    assert is_silent(world, world.sockets[0])
    assert Link(0, 2).apply(world) == errno.EOPNOTSUPP
    assert list(world.sockmap) == [1]
    right = world_after(*history, protocol=Protocol.TCP)
    assert reached(right, 1) == (None, REFUSED)


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (Kind.ANOTHER_PROTOCOL, 0),
        (Kind.ANOTHER_FAMILY, 0),
        (Kind.ANOTHER_PORT, 0),
        (Kind.NOT_BOUND, errno.EINVAL),
        (Kind.ALONE, errno.EINVAL),
        (Kind.LOCAL, ENOTSUPP),
    ],
)
def test_foreign_socket_fits_if_it_is_in_a_group_and_is_never_selected(
    protocol: Protocol, kind: Kind, answer: int
) -> None:
    world = world_after(Open(0), Attach(0, Program.SLOT), protocol=protocol)
    assert Foreign(kind, 1).apply(world) == answer
    assert reached(world, 1) == (None, REFUSED)
    assert Foreign(kind, 2).apply(world) == (answer or errno.EBUSY)
    assert Fill(0, 1).apply(world) == 0
    assert reached(world, 1) == (0, SELECTED)
