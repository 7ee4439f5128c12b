# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The model of a rolling restart, held against small restarts that were worked out by hand."""

from __future__ import annotations

import pytest

from harness.group.restart import known_payload, new_payload, template
from harness.model.restart import (
    Plan,
    Record,
    Sent,
    Strategy,
    Tally,
    expect,
    is_astray,
    never_reached,
    orders,
    renumbered,
    successor,
    tally,
)

QUARTER = 1 << 30
"""A quarter of the hash's range."""

HASHES = {0: 0, 1: 3 * QUARTER, 2: 3 * QUARTER}
"""Of four members the first and the last; of two, too."""


def plan(strategy: Strategy, **fields: int) -> Plan:
    return Plan(strategy=strategy, old=2, new=2, clients=fields.get("clients", 1))


def receivers(strategy: Strategy, client: int) -> list[int | None]:
    return [
        each.receiver
        for each in expect(plan(strategy), {0: HASHES[0], 1: HASHES[1]})
        if each.client == client and not each.first
    ]


def test_the_last_member_fills_the_hole() -> None:
    assert orders(plan(Strategy.HASH)) == [(0, 1), (0, 1, 2, 3), (3, 1, 2), (3, 2)]
    assert [(each.member, each.before, each.after, each.left) for each in renumbered(plan(Strategy.HASH))] == [
        (3, 3, 0, 0),
        (2, 2, 1, 1),
    ]


def test_handed_over_sockets_keep_their_places() -> None:
    assert orders(plan(Strategy.HANDOVER)) == [(0, 1), (2, 3), (2, 3), (2, 3)]
    assert renumbered(plan(Strategy.HANDOVER)) == []


@pytest.mark.parametrize(
    ("strategy", "old", "new"),
    [
        # The old client's member is 0. The new one's hash is 3/4: its first packet goes to place 3 of (0, 1, 2, 3).
        (Strategy.HASH, [0, 0, 3, 3], [3, 2, 2]),
        (Strategy.ORDER, [0, 0, 3, 3], [3, 2, 2]),  # place 3 is beyond (3, 1, 2): the hash, place 2
        (Strategy.SLOTS, [0, 0, 3, 3], [3, 3, 3]),
        (Strategy.HANDOVER, [0, 2, 2, 2], [3, 3, 3]),
    ],
)
def test_receivers_are_as_counted_by_hand(strategy: Strategy, old: list[int], new: list[int]) -> None:
    assert (receivers(strategy, 0), receivers(strategy, 1)) == (old, new)


def test_packets_are_counted_by_what_became_of_them() -> None:
    def sent(step: int, client: int, receiver: int | None, *, first: bool = False) -> Sent:
        return Sent(step=step, client=client, first=first, receiver=receiver)

    record = Record(
        plan=plan(Strategy.SLOTS),
        sent=[
            sent(0, 0, 1, first=True),
            sent(0, 0, 1),  # kept
            sent(1, 1, 2, first=True),
            sent(1, 0, 0),  # astray: member 1 is there
            sent(1, 1, 2),  # kept
            sent(2, 0, None),  # nobody
            sent(2, 1, 1),  # astray
            sent(3, 0, 2),  # orphaned: member 1 has left
            sent(3, 1, 2),  # kept
        ],
    )
    assert tally(record, new=False) == Tally(kept=1, astray=1, orphaned=1, nobody=1)
    assert tally(record, new=True) == Tally(kept=2, astray=1, orphaned=0, nobody=0)
    assert never_reached(record) == [3]


def test_generations_of_different_sizes_have_their_names() -> None:
    """A hand-over gives B the members of A, however many it was to have."""
    handed = Plan(strategy=Strategy.HANDOVER, old=3, new=1)
    assert (handed.joining, handed.members) == (3, 6)
    joined = Plan(strategy=Strategy.HASH, old=3, new=1)
    assert (joined.joining, joined.members) == (1, 4)
    assert [joined.name(member) for member in range(4)] == ["A0", "A1", "A2", "B0"]
    assert joined.steps == ("A runs", "B has joined", "A0 has left", "A1 has left", "A2 has left")


def test_restart_is_of_four_members_for_four_unless_it_is_said() -> None:
    usual = Plan(strategy=Strategy.HASH)
    assert (usual.old, usual.new, usual.clients, usual.migrate) == (4, 4, 16, False)
    assert not usual.is_new(15)
    assert usual.is_new(16)


def test_sockets_of_the_old_have_a_successor_after_a_hand_over_alone() -> None:
    assert [successor(plan(Strategy.HANDOVER), member) for member in range(4)] == [2, 3, 2, 3]
    assert [successor(plan(Strategy.HASH), member) for member in range(4)] == [0, 1, 2, 3]


def test_what_nobody_knows_or_receives_is_not_astray() -> None:
    first = Sent(step=0, client=0, first=True, receiver=None)
    record = Record(plan=plan(Strategy.HANDOVER), sent=[first])
    present = orders(record.plan)
    assert is_astray(record, Sent(step=1, client=0, first=False, receiver=2), present) is False, "nobody knows it"
    known = Record(plan=record.plan, sent=[Sent(step=0, client=0, first=True, receiver=1)])
    assert is_astray(known, Sent(step=1, client=0, first=False, receiver=None), present) is False
    assert is_astray(known, Sent(step=1, client=0, first=False, receiver=2), present) is True


def test_payloads_carry_the_number() -> None:
    assert known_payload(5)[:2] == b"\x40\x05"
    assert new_payload(1) != new_payload(2)
    assert new_payload(1)[0] & 0x80
    assert template("40 SSSS 00")(258) == b"\x40\x01\x02\x00"


@pytest.mark.parametrize("text", ["4000", "40SS00SS", "4SS", "xxSS", ""])
def test_templates_that_name_no_place_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"S|hexadecimal|hex"):
        template(text)
