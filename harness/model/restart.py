# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A rolling restart: its plan, what should become of every packet, and what became of them. Pure.

Generation A of a server runs, generation B joins its reuseport group, A's members leave one by one, and clients keep
sending. A member's number is its turn of joining: A's are 0 to old - 1, B's follow. The group's order is the kernel's:
whoever joins is last, and when one leaves, the last takes its place (`__reuseport_detach_sock`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.model.layout import Family, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Strategy(StrEnum):
    """How a client's packets find the socket that knows the client."""

    HASH = "hash"  # they are left to the kernel's hash
    ORDER = "order"  # the client's packets carry the member's place in the group, and a filter returns it
    SLOTS = "slots"  # they carry a slot of a sockarray, which a member keeps as long as it lives
    HANDOVER = "handover"  # the hash, but A's sockets are given to B (SCM_RIGHTS): no member leaves
    PROGRAM = "program"  # the user's program decides


class Reattach(StrEnum):
    """When B attaches the program again."""

    BEFORE = "before"  # B's first member joins
    BETWEEN = "between"  # half of B's members have joined
    AFTER = "after"  # all have joined
    NEVER = "never"


class Leaving(StrEnum):
    """How a member of A leaves."""

    CLOSE = "close"
    SHUTDOWN = "shutdown"  # TCP alone: shutdown(2) ends listening, the socket stays open


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A restart: so many members of each generation, so many clients that began before B joined and after it."""

    strategy: Strategy
    old: int = 4
    new: int = 4
    clients: int = 16
    protocol: Protocol = Protocol.UDP
    family: Family = Family.IPV4
    reattach: Reattach = Reattach.BEFORE
    leaving: Leaving = Leaving.CLOSE
    migrate: bool = False
    """TCP: net.ipv4.tcp_migrate_req is on while A leaves."""

    @property
    def joining(self) -> int:
        """Return how many members B has; a hand-over gives it A's."""
        return self.old if self.strategy is Strategy.HANDOVER else self.new

    @property
    def members(self) -> int:
        """Return how many members there ever are."""
        return self.old + self.joining

    @property
    def steps(self) -> tuple[str, ...]:
        """Return what has happened at each time that clients send."""
        return ("A runs", "B has joined", *(f"{self.name(member)} has left" for member in range(self.old)))

    def name(self, member: int) -> str:
        """Return a member's name: A0, A1 and so on, B0 and so on."""
        return f"A{member}" if member < self.old else f"B{member - self.old}"

    def is_new(self, client: int) -> bool:
        """Return whether the client began after B had joined."""
        return client >= self.clients


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One packet of a client, or one connection, and the member that received it; None if no member did."""

    step: int
    client: int
    first: bool  # the client's first, by which it got the member that knows it
    receiver: int | None


@dataclass(frozen=True, kw_only=True)
class Pending:
    """TCP: a connection that its listener had not accepted when it left, and the member that has it since."""

    client: int
    left: int
    receiver: int | None


@dataclass(frozen=True, kw_only=True)
class Renumbered:
    """A member that got another place in the group when one left."""

    member: int
    before: int
    after: int
    left: int


@dataclass(kw_only=True)
class Record:
    """What became of a restart."""

    plan: Plan
    sent: list[Sent] = field(default_factory=list)
    pending: list[Pending] = field(default_factory=list)

    def owners(self) -> dict[int, int | None]:
        """Return each client's member: the one that received its first packet."""
        return {each.client: each.receiver for each in self.sent if each.first}


def orders(plan: Plan) -> list[tuple[int, ...]]:
    """Return the group's order at each step."""
    order = list(range(plan.old))
    found = [tuple(order)]
    if plan.strategy is Strategy.HANDOVER:
        return [*found, *[tuple(range(plan.old, plan.members))] * (plan.old + 1)]
    order += range(plan.old, plan.members)
    found.append(tuple(order))
    for leaving in range(plan.old):
        place = order.index(leaving)
        order[place] = order[-1]
        order.pop()
        found.append(tuple(order))
    return found


def renumbered(plan: Plan) -> list[Renumbered]:
    """Return the members that got another place, by the kernel's rule."""
    found = []
    steps = orders(plan)
    for left, (before, after) in enumerate(pairwise(steps[1:])):
        found += [
            Renumbered(member=member, before=before.index(member), after=place, left=left)
            for place, member in enumerate(after)
            if before.index(member) != place
        ]
    return found


def senders(plan: Plan, step: int) -> range:
    """Return the clients that send at a step: the old ones, and from the second step on the new ones too."""
    return range(plan.clients if step == 0 else 2 * plan.clients)


def expect(plan: Plan, hashes: Mapping[int, int]) -> list[Sent]:
    """Return what should become of every packet, given the kernel's hash of each client's.

    At each step every client sends once; one that is there for the first time sends its first packet before.
    """
    owners: dict[int, int | None] = {}
    found: list[Sent] = []
    for step, order in enumerate(orders(plan)):
        for first in (True, False):
            for client in senders(plan, step):
                if first and client in owners:
                    continue
                by_hash = order[hashes[client] * len(order) >> 32] if order else None
                receiver = by_hash if first else _known(plan, order, owners[client], by_hash)
                if first:
                    owners[client] = receiver
                found.append(Sent(step=step, client=client, first=first, receiver=receiver))
    return found


def _known(plan: Plan, order: Sequence[int], owner: int | None, by_hash: int | None) -> int | None:
    """Return the member that receives a packet of a client that some member knows."""
    if owner is None or plan.strategy in {Strategy.HASH, Strategy.HANDOVER}:
        return by_hash
    if plan.strategy is Strategy.ORDER:
        return order[owner] if owner < len(order) else by_hash
    return owner if owner in order else by_hash


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What became of the packets of some clients, the first ones aside."""

    kept: int  # received by the member that knows the client, or by the one that got its socket
    astray: int  # received by another, though the one that knows the client is there
    orphaned: int  # received by another, as that one has left
    nobody: int  # received by no member


def successor(plan: Plan, member: int) -> int:
    """Return the member of B that has a member's socket after a hand-over, the member itself otherwise."""
    handed = plan.strategy is Strategy.HANDOVER and member < plan.old
    return member + plan.old if handed else member


def is_astray(record: Record, each: Sent, present: Sequence[Sequence[int]]) -> bool:
    """Return whether a packet was received by another member though the one that knows the client is there.

    `present` are the members at each step, as `orders` has them.
    """
    owner = record.owners()[each.client]
    if each.first or owner is None or each.receiver is None:
        return False
    there = {owner, successor(record.plan, owner)} & set(present[each.step])
    return bool(there) and each.receiver not in there


def tally(record: Record, *, new: bool) -> Tally:
    """Return what became of the packets of the old clients, or of the new ones."""
    plan, owners, present = record.plan, record.owners(), orders(record.plan)
    counts = {"kept": 0, "astray": 0, "orphaned": 0, "nobody": 0}
    for each in record.sent:
        if each.first or plan.is_new(each.client) is not new:
            continue
        owner = owners[each.client]
        if each.receiver is None:
            counts["nobody"] += 1
        elif is_astray(record, each, present):
            counts["astray"] += 1
        elif owner is not None and each.receiver in {owner, successor(plan, owner)}:
            counts["kept"] += 1
        else:
            counts["orphaned"] += 1
    return Tally(**counts)


def never_reached(record: Record) -> list[int]:
    """Return the members that received nothing, ever."""
    reached = {each.receiver for each in record.sent} | {each.receiver for each in record.pending}
    return [member for member in range(record.plan.members) if member not in reached]
