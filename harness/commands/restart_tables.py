# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What became of restarts: a table of strategies, one of clients, and lines on what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from harness.model.restart import is_astray, never_reached, orders, renumbered, tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.model.restart import Plan, Record, Sent

_MOST_LISTED = 12
"""Packets that reached nobody are named up to here, then counted."""


def summary_table(records: Sequence[Record]) -> Table:
    """Return two lines for each restart: what became of the old clients' packets, and of the new ones'."""
    table = Table(title=_title(records[0]), title_justify="left")
    for heading in ("strategy", "clients", "began at"):
        table.add_column(heading)
    for heading in ("kept", "astray", "orphaned", "nobody"):
        table.add_column(heading, justify="right")
    for record in records:
        for new in (False, True):
            counts = tally(record, new=new)
            table.add_row(
                "" if new else record.plan.strategy.value,
                "new" if new else "old",
                _began(record, new=new),
                *map(str, (counts.kept, counts.astray, counts.orphaned, counts.nobody)),
                end_section=new,
            )
    return table


def clients_table(record: Record) -> Table:
    """Return a line for each client: who received its packet at each step, the member that knows it first."""
    plan = record.plan
    table = Table(title=f"{plan.strategy}: who received each client's packets", title_justify="left")
    for heading in ("client", "began at", *plan.steps):
        table.add_column(heading)
    receivers: dict[int, dict[int, int | None]] = {}
    for each in record.sent:
        if not each.first:
            receivers.setdefault(each.client, {})[each.step] = each.receiver
    owners = record.owners()
    for client, by_step in sorted(receivers.items()):
        table.add_row(
            f"{'new' if plan.is_new(client) else 'old'} {client % plan.clients}",
            _named(record, owners[client]),
            *(_named(record, by_step[step]) if step in by_step else "" for step in range(len(plan.steps))),
        )
    return table


def remarks(record: Record) -> Iterator[str]:
    """Yield lines: packets that went astray, those that reached nobody, and members that received nothing."""
    plan = record.plan
    owners, present = record.owners(), orders(plan)
    astray: dict[int, list[Sent]] = {}
    for each in record.sent:
        owner = owners[each.client]
        if owner is not None and each.receiver is not None and is_astray(record, each, present):
            astray.setdefault(owner, []).append(each)
    for owner, found in sorted(astray.items()):
        to = dict.fromkeys(each.receiver for each in found if each.receiver is not None)
        yield (
            f"{plan.strategy}: {len(found)} packets of clients of {plan.name(owner)} went astray, to "
            f"{', '.join(map(plan.name, to))}; first when {plan.steps[found[0].step]}"
        )
    lost = [each for each in record.sent if each.receiver is None]
    for sent in lost[:_MOST_LISTED]:
        kind = "new" if plan.is_new(sent.client) else "old"
        which = "first packet" if sent.first else "packet"
        yield (
            f"{plan.strategy}: no socket got the {which} of the {kind} client {sent.client % plan.clients} when "
            f"{plan.steps[sent.step]}"
        )
    if len(lost) > _MOST_LISTED:
        yield f"{plan.strategy}: and {len(lost) - _MOST_LISTED} more packets that no socket got"
    if record.pending:
        moved = sum(each.receiver is not None for each in record.pending)
        yield (
            f"{plan.strategy}: of {len(record.pending)} connections that waited to be accepted as their member left, "
            f"{moved} moved to another and {len(record.pending) - moved} were reset"
        )
    if missed := never_reached(record):
        yield f"{plan.strategy}: never reached: {', '.join(map(plan.name, missed))}"


def renumberings(plan: Plan) -> Iterator[str]:
    """Yield a line for each member that gets another place in the group."""
    for each in renumbered(plan):
        yield (
            f"{plan.name(each.member)} was at place {each.before} of the group and is at place {each.after} "
            f"since {plan.name(each.left)} left"
        )


def _title(record: Record) -> str:
    plan = record.plan
    words = [f"{plan.protocol} {plan.family}", f"A has {plan.old} members, B {plan.new}"]
    words += [f"{plan.clients} clients before B joins, {plan.clients} after"]
    words += [f"attached again: {plan.reattach}", f"A leaves by {plan.leaving}"]
    return ", ".join([*words, *(["requests migrate"] if plan.migrate else [])])


def _began(record: Record, *, new: bool) -> str:
    plan = record.plan
    owners = [owner for client, owner in record.owners().items() if plan.is_new(client) is new]
    found = {
        "A": sum(owner is not None and owner < plan.old for owner in owners),
        "B": sum(owner is not None and owner >= plan.old for owner in owners),
        "nobody": owners.count(None),
    }
    return ", ".join(f"{name} {count}" for name, count in found.items() if count)


def _named(record: Record, member: int | None) -> str:
    return "nobody" if member is None else record.plan.name(member)
