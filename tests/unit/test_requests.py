# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The model of connections whose ACK is still to come, by itself: what the kernel's source says of each segment."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies

from harness.campaign.saved import Saved
from harness.campaign.table import NUMBERS_OF_STEPS, step_of
from harness.model.abi import Result
from harness.model.layout import Family, Protocol
from harness.model.life import fast_open, listeners
from harness.model.life.behaviour import Behaviour
from harness.model.life.fast_open import Given
from harness.model.life.requests import is_silent
from harness.model.life.segments import (
    Abort,
    Answer,
    Ask,
    AskFast,
    Cookies,
    EmptyHeir,
    FastOpen,
    FastOpenKeys,
    FastOpenLimit,
    FillHeir,
    Migrate,
    Name,
    NeedCookie,
    Refuse,
)
from harness.model.life.state import Keys, Program, Seen, World
from harness.model.life.steps import Attach, Close, Detach, Fill, Listen, Open, Shutdown
from harness.model.life.transitions import TRANSITIONS
from harness.model.outcome import ReplyKind
from harness.model.siphash import siphash

if TYPE_CHECKING:
    from harness.model.life.state import Group
    from harness.model.life.steps import Step

SYN_ACK, RESET = Seen(reply=ReplyKind.SYN_ACK), Seen(reply=ReplyKind.RESET)


def world_after(*history: Step, like: Behaviour | None = None, can_migrate: bool = True) -> World:
    world = World(like or Behaviour(), Protocol.TCP, can_migrate, can_migrate=can_migrate)
    for step in history:
        assert step.apply(world) == 0, f"{step} is refused"
    return world


def led_to(world: World, step: Step) -> Seen | None:
    world.seen = None
    assert step.apply(world) in (0, None)
    return world.seen


def accepted_by(*numbers: int) -> Seen:
    return Seen(takers=frozenset(numbers))


def test_request_is_of_the_listener_that_was_selected_though_others_come_before_it() -> None:
    world = world_after(Open(0))
    assert led_to(world, Ask()) == SYN_ACK
    assert led_to(world, Ask()) is None  # the same SYN again is left out
    for step in (Open(1), Attach(1, Program.DROP)):
        assert step.apply(world) == 0
    assert world.sockets[0].queued == 1
    assert led_to(world, Answer()) == accepted_by(0)
    assert world.sockets[0].queued == 0
    assert led_to(world, Answer()) is None


@pytest.mark.parametrize("end", [Close(0), Shutdown(0)])
def test_request_of_a_listener_that_ended_migrates_with_its_ack(end: Step) -> None:
    world = world_after(Open(0), Ask(), Open(1), Open(2), end)
    group = world.sockets[1].group
    assert group is not None
    assert [made.number for made in group.closed] == [0]  # the request holds even one that is closed
    assert led_to(world, Answer()) == accepted_by(1, 2)
    assert [made.number for made in group.closed] == ([0] if end == Shutdown(0) else [])
    assert (world.sockets[1].queued, world.sockets[2].queued) == (0, 0)


def test_request_waits_for_a_listener_that_listens_again() -> None:
    world = world_after(Open(0), Ask(), Open(1), Shutdown(0), Listen(0))
    assert led_to(world, Answer()) == accepted_by(0)


@pytest.mark.parametrize(
    "history",
    [
        (Open(0), Ask(), Open(1), Migrate(on=False), Close(0)),
        (Open(0), Ask(), Open(1), Close(0), Migrate(on=False)),
        (Open(0), Ask(), Close(0), Open(1)),
        (Open(0), Ask(), Close(0)),
    ],
)
def test_request_that_has_nowhere_to_go_is_reset(history: tuple[Step, ...]) -> None:
    assert led_to(world_after(*history), Answer()) == RESET


def test_ack_of_a_request_that_is_no_more_runs_the_program_again() -> None:
    world = world_after(Open(0), Ask(), Open(1), Attach(1), Migrate(on=False), Close(0))
    assert not world.counted
    assert led_to(world, Answer()) == RESET
    assert world.counted == {Result.PASS: 1}


def with_program(*history: Step) -> World:
    """Return the world after a history in which the program says who inherits, and no sysctl does."""
    world = World(Behaviour(), Protocol.TCP, can_migrate=True, has_migrate=True)
    for step in history:
        assert step.apply(world) == 0, f"{step} is refused"
    return world


def test_program_lets_requests_migrate_without_the_sysctl() -> None:
    asked = with_program(Open(0), Ask(), Open(1), Attach(1, Program.MIGRATE), Close(0))
    assert led_to(asked, Answer()) == accepted_by(1)
    assert not asked.counted  # it is asked who inherits, not whom the packet is for
    late = with_program(Open(0), Ask(), Open(1), Close(0), Attach(1, Program.MIGRATE))
    assert led_to(late, Answer()) == RESET  # the listener has left the group
    assert Attach(0, Program.MIGRATE).apply(World(Behaviour(), Protocol.TCP)) is None


def test_program_that_refuses_resets_a_request_even_with_the_sysctl() -> None:
    history = (Migrate(on=True), Open(0), Ask(), Open(1), Attach(1, Program.MIGRATE), Refuse(), Close(0))
    world = with_program(*history)
    assert led_to(world, Answer()) == RESET
    assert world.counted == {Result.DROP_ERR_SK_SELECT_REUSEPORT: 1}  # the ACK is looked up then
    willing = with_program(*history, Refuse(on=False))
    assert led_to(willing, Answer()) == accepted_by(1)


NAMED = (Open(0), Open(1), Open(2), Attach(0, Program.MIGRATE), FillHeir(2, 1))
"""A group whose program can have its third listener inherit; the hash would choose another one."""


def test_program_has_the_one_that_it_names_inherit() -> None:
    world = with_program(*NAMED, Refuse(), Name(1), Refuse(on=False))
    assert world.counted == {}
    assert listeners.heirs(world, group_of(world, 0)) == group_of(world, 0).members
    named = with_program(*NAMED, Name(1), FillHeir(0, 0), Ask(index=0), Close(0))
    assert led_to(named, Answer()) == accepted_by(2)
    assert named.taken["reuseport_migrate_sock: selected"] == 1


def test_program_that_names_nobody_of_the_group_lets_nobody_inherit() -> None:
    """`sk_select_reuseport` fails, and the program drops: an empty slot, or a listener on another address."""
    empty = with_program(*NAMED, Name(0), FillHeir(0, 0), Ask(), Close(0))
    assert led_to(empty, Answer()) == RESET
    of_another = with_program(*NAMED, Open(3, specific=True), FillHeir(0, 0), FillHeir(3, 3), Name(3))
    assert listeners.heirs(of_another, group_of(of_another, 0)) == []
    assert of_another.taken["reuseport_migrate_sock: not selected"] == 1


def test_heirs_are_in_a_sockarray_of_their_own_and_leave_it_as_others_do() -> None:
    world = with_program(*NAMED)
    assert Fill(2, 0).apply(world) == errno.EBUSY
    assert FillHeir(2, 0).apply(world) == errno.EBUSY
    assert FillHeir(1, 8).apply(world) == errno.E2BIG
    assert (Shutdown(2).apply(world), EmptyHeir(1).apply(world)) == (0, errno.ENOENT)
    assert FillHeir(2, 1).apply(world) == errno.EINVAL  # it does not listen
    assert FillHeir(0, 1).apply(World(Behaviour(), Protocol.TCP)) is None


def group_of(world: World, number: int) -> Group:
    group = world.sockets[number].group
    assert group is not None
    return group


def test_reset_ends_a_request_where_it_is() -> None:
    world = world_after(Open(0), Ask(), Open(1), Ask(index=1), Close(0))
    assert led_to(world, Abort()) == Seen()
    assert not is_silent(world, world.sockets[1])


def test_k45_counts_the_heir_down_for_good() -> None:
    world = world_after(Open(0), Ask(), Open(1), Close(0), like=Behaviour(counts_reset_at_heir=True))
    assert led_to(world, Abort()) == Seen()
    assert is_silent(world, world.sockets[1])
    assert led_to(world, Ask()) == Seen()
    for step in (Shutdown(1), Listen(1)):
        assert step.apply(world) == 0
    assert is_silent(world, world.sockets[1])
    assert Cookies().apply(world) == 0
    assert led_to(world, Ask()) == SYN_ACK  # a full queue is what cookies are for


def test_k45_is_left_out_where_the_hash_would_decide_who_is_counted_down() -> None:
    history = (Open(0), Ask(), Open(1), Open(2), Close(0))
    assert led_to(world_after(*history, like=Behaviour(counts_reset_at_heir=True)), Abort()) is None
    assert led_to(world_after(*history), Abort()) == Seen()


def test_cookie_is_looked_up_when_it_comes_back() -> None:
    world = world_after(Cookies(), Open(0))
    assert led_to(world, Ask()) == SYN_ACK
    assert world.sockets[0].queued == 0
    for step in (Open(1), Close(0)):
        assert step.apply(world) == 0
    assert led_to(world, Answer()) == accepted_by(1)


def test_cookie_is_for_groups_that_have_sent_one_while_they_are_sent() -> None:
    """`tcp_synq_no_recent_overflow`: another group, as well as one without cookies, takes the ACK for a stray."""
    another = world_after(Cookies(), Open(0), Ask(), Open(1, specific=True))
    assert led_to(another, Answer()) == RESET
    off = world_after(Cookies(), Open(0), Ask(), Cookies(on=False))
    assert led_to(off, Answer()) == RESET
    again = world_after(Cookies(), Open(0), Ask(), Open(1), Cookies(on=False), Cookies(), Close(0))
    assert led_to(again, Answer()) == accepted_by(1)


def test_fast_open_takes_the_connection_with_its_syn_but_not_beside_cookies() -> None:
    world = world_after(Open(0), FastOpen(0))
    assert led_to(world, Ask()) == Seen(reply=ReplyKind.SYN_ACK, takers=frozenset({0}), data_taken=True)
    assert not world.requests
    assert Cookies().apply(world) == 0
    assert led_to(world, Ask()) == SYN_ACK


def test_siphash_is_that_of_its_paper() -> None:
    """The vector of the paper's appendix A."""
    assert siphash(bytes(range(16)), bytes(range(15))) == 0xA129CA6149BE45E5


COOKIES = {keys: fast_open.cookie(Family.IPV4, fast_open.KEYS[keys][0]) for keys in Keys}


def opened_by(number: int, cookie: bytes = b"") -> Seen:
    return Seen(reply=ReplyKind.SYN_ACK, takers=frozenset({number}), data_taken=True, cookie=cookie)


def told(cookie: bytes) -> Seen:
    return Seen(reply=ReplyKind.SYN_ACK, cookie=cookie)


@pytest.mark.parametrize(
    ("keys", "given", "expected"),
    [
        (Keys.FIRST, Given.REQUEST, told(COOKIES[Keys.FIRST])),
        (Keys.FIRST, Given.RIGHT, opened_by(0)),
        (Keys.FIRST, Given.WRONG, told(COOKIES[Keys.FIRST])),
        (Keys.SECOND, Given.RIGHT, told(COOKIES[Keys.SECOND])),
        (Keys.ROTATED, Given.RIGHT, opened_by(0, COOKIES[Keys.SECOND])),
        (Keys.ROTATED, Given.WRONG, told(COOKIES[Keys.SECOND])),
    ],
)
def test_fast_open_wants_a_cookie_of_one_of_the_keys_of_the_listener(keys: Keys, given: Given, expected: Seen) -> None:
    history = (Open(0), FastOpen(0), FastOpenKeys(0, keys), NeedCookie())
    assert led_to(world_after(*history), AskFast(given=given)) == expected
    assert led_to(world_after(*history), Ask()) == SYN_ACK
    assert led_to(world_after(*history, FastOpen(0, on=False)), AskFast(given=given)) == SYN_ACK
    assert led_to(world_after(*history, Cookies()), AskFast(given=given)) == SYN_ACK
    without = (*history, NeedCookie(on=False))
    assert led_to(world_after(*without), AskFast(given=given)) == opened_by(0)  # whatever the cookie


def test_cookie_is_another_one_for_each_key_and_family() -> None:
    assert COOKIES[Keys.SECOND] == COOKIES[Keys.ROTATED]
    assert len({fast_open.cookie(family, key[0]) for key in fast_open.KEYS.values() for family in Family}) == 4


def test_fast_open_has_a_limit_until_the_acks_come() -> None:
    world = world_after(Open(0), FastOpenLimit(0, 2))
    listener = world.sockets[0]
    taken = [
        fast_open.try_fast_open(world, listener, Family.IPV4, Given.NOTHING, pending=pending).data_taken
        for pending in range(3)
    ]
    assert taken == [True, True, False]
    listener.pending = -1  # K30
    assert fast_open.try_fast_open(world, listener, Family.IPV4, Given.NOTHING, pending=2).data_taken
    for step in (Shutdown(0), Listen(0)):
        assert step.apply(world) == 0
    assert not fast_open.try_fast_open(world, listener, Family.IPV4, Given.NOTHING, pending=2).data_taken


def test_syn_that_the_program_drops_is_reset() -> None:
    world = world_after(Open(0), Attach(0, Program.DROP))
    assert led_to(world, Ask()) == RESET
    assert Detach(0).apply(world) == 0
    assert led_to(world, Ask()) == SYN_ACK


def test_steps_without_a_meaning_do_nothing() -> None:
    old = World(Behaviour(), Protocol.TCP)
    assert [step.apply(old) for step in (Ask(), Migrate(), Migrate(on=True))] == [None] * 3
    of_udp = World(Behaviour())
    assert Open(0).apply(of_udp) == 0
    assert [step.apply(of_udp) for step in (Ask(), Answer(), Abort(), Cookies(), FastOpen(0))] == [None] * 5


@given(strategies.lists(strategies.integers(0, NUMBERS_OF_STEPS - 1), max_size=60))
def test_any_history_of_tcp_keeps_the_tables_consistent(codes: list[int]) -> None:
    """Each request is counted by its listener alone, which is in its group, or forgotten by it, for good reason."""
    world = World(Behaviour(), Protocol.TCP, migrates=True, can_migrate=True, has_migrate=True, has_sockmap=True)
    for code in codes:
        step_of(code, Protocol.TCP).apply(world)
    held = [request.listener for request in world.requests.values() if request.listener is not None]
    listeners = {*world.sockets.values(), *held}
    assert all(made.queued == held.count(made) for made in listeners)
    for made in listeners:
        assert made.group is None or (made in made.group.members) == made.hashed
        assert made.group is None or (made in made.group.closed) != made.hashed
        assert not made.group or all(each in listeners for each in (*made.group.members, *made.group.closed))
    there = [*world.sockets.values(), *world.foreign.values()]
    assert all(made in there and made.slot is None for made in world.sockmap.values())
    assert set(world.taken) <= set(TRANSITIONS)


def test_case_imports_each_step_from_where_it_is() -> None:
    case = Saved(steps=(Open(0), Ask(family=Family.IPV6), Abort()), protocol=Protocol.TCP).as_case()
    names: dict[str, object] = {}
    exec(case, names)
    assert (names["Open"], names["Ask"], names["Abort"]) == (Open, Ask, Abort)
