# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Rolling restarts: generation A runs, B joins its group, A's members leave one by one, and clients keep sending.

Each case computes from the clients' hashes who has to receive every packet, and asserts what its strategy promises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family, each_protocol, promise, requires
from harness.group.restart import FIRST_CLIENT_PORT, Restart, new_payload
from harness.group.steering import steering
from harness.model.layout import Family, Protocol
from harness.model.restart import (
    Leaving,
    Plan,
    Reattach,
    Record,
    Strategy,
    expect,
    never_reached,
    orders,
    renumbered,
    senders,
    tally,
)

if TYPE_CHECKING:
    from harness.cases import Bench, LoadProgram

each_protocol_and_leaving = pytest.mark.parametrize(
    ("protocol", "leaving"),
    [(Protocol.UDP, Leaving.CLOSE), (Protocol.TCP, Leaving.CLOSE), (Protocol.TCP, Leaving.SHUTDOWN)],
    ids=["udp-close", "tcp-close", "tcp-shutdown"],
)
each_reattach = pytest.mark.parametrize("reattach", Reattach)


def hashes_of(bench: Bench, load_program: LoadProgram, plan: Plan) -> dict[int, int]:
    """Return the kernel's hash of each client's packets, as a program saw it that left them to one lone socket."""
    program = load_program("always_pass", size=1)
    number = bench.open(plan.protocol, plan.family)
    bench.attach(number, program)
    ports = [FIRST_CLIENT_PORT + client for client in range(2 * plan.clients)]
    bench.send_and_find_each([
        bench.packet(0, plan.protocol, plan.family, payload=new_payload(0), source_port=port) for port in ports
    ])  # fmt: skip
    found = dict(enumerate(program.hashes(ports)))
    bench.close()
    bench.wire.read_replies()
    assert len(found) == len(ports), "the program noted the hash of every client's packets"
    return found


def carry_out(bench: Bench, load_program: LoadProgram, plan: Plan) -> Record:
    """Carry a restart out, hold every packet against what has to become of it, and return what became of it."""
    hashes = hashes_of(bench, load_program, plan)
    steered = steering(plan)
    try:
        record = Restart(bench, plan, steered).run()
    finally:
        steered.close()
    assert record.sent == expect(plan, hashes)
    return record


@promise("restart.hash")
@each_family
@each_protocol_and_leaving
def test_the_hash_takes_clients_from_sockets_that_are_there(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, leaving: Leaving, family: Family
) -> None:
    """Left to the hash, a restart loses no packet, and sends most of them to sockets that do not know the client."""
    plan = Plan(strategy=Strategy.HASH, protocol=protocol, leaving=leaving, family=family)
    record = carry_out(bench, load_for_test, plan)
    old, new = tally(record, new=False), tally(record, new=True)
    assert (old.nobody, new.nobody) == (0, 0)
    assert old.astray + old.orphaned > old.kept
    assert new.astray > 0, "new clients are moved while old members leave, though their own member stays"


@promise("restart.order")
@each_reattach
@each_protocol_and_leaving
def test_places_are_given_to_others_when_members_leave(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, leaving: Leaving, reattach: Reattach
) -> None:
    """Under a filter by place no client goes astray until a member leaves; then the last member's clients do."""
    plan = Plan(strategy=Strategy.ORDER, protocol=protocol, leaving=leaving, reattach=reattach)
    record = carry_out(bench, load_for_test, plan)
    moved = [each.member for each in renumbered(plan)]
    assert moved == [7, 6, 5, 4], "B's last member fills the first hole, and so on (socket(7))"
    owners, order = record.owners(), orders(plan)
    for each in record.sent:
        owner = owners[each.client]
        if owner is not None and not each.first and order[each.step][owner : owner + 1] == (owner,):
            assert each.receiver == owner, "its place is still its own"
    assert tally(record, new=True).astray > 0
    assert tally(record, new=False).nobody == 0


@promise("restart.slots")
@each_family
@each_reattach
@each_protocol_and_leaving
def test_slots_keep_every_client_whose_member_is_there(
    bench: Bench,
    load_for_test: LoadProgram,
    protocol: Protocol,
    leaving: Leaving,
    reattach: Reattach,
    family: Family,
) -> None:
    """Under fixed slots of a sockarray no packet goes astray: only clients whose member has left go to others."""
    plan = Plan(strategy=Strategy.SLOTS, protocol=protocol, leaving=leaving, reattach=reattach, family=family)
    record = carry_out(bench, load_for_test, plan)
    old, new = tally(record, new=False), tally(record, new=True)
    assert (old.astray, old.nobody, new.astray, new.orphaned, new.nobody) == (
        0, 0, 0, sum(_after_leaving(record, client) for client in senders(plan, 1) if plan.is_new(client)), 0,
    )  # fmt: skip


@promise("restart.handover")
@each_family
@each_protocol
def test_handed_over_sockets_keep_every_client(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, family: Family
) -> None:
    """Where A hands its sockets to B (SCM_RIGHTS) no client leaves its socket, and every member of B is reached."""
    # With so many clients no member is left out by chance: 4 × (3/4)^64.
    plan = Plan(strategy=Strategy.HANDOVER, protocol=protocol, family=family, clients=64)
    record = carry_out(bench, load_for_test, plan)
    for new in (False, True):
        counts = tally(record, new=new)
        assert (counts.astray, counts.orphaned, counts.nobody) == (0, 0, 0)
    assert never_reached(record) == []
    assert renumbered(plan) == []


@promise("restart.pending-lost")
@pytest.mark.parametrize("leaving", Leaving)
def test_connections_that_nobody_accepted_are_reset(bench: Bench, load_for_test: LoadProgram, leaving: Leaving) -> None:
    """Without migration, connections that wait to be accepted are lost with the listener that leaves."""
    plan = Plan(strategy=Strategy.SLOTS, protocol=Protocol.TCP, leaving=leaving)
    record = carry_out(bench, load_for_test, plan)
    assert record.pending
    assert {each.receiver for each in record.pending} == {None}


@promise("restart.pending-moved")
@requires("tcp_migrate_req")
@pytest.mark.parametrize("leaving", Leaving)
def test_connections_that_nobody_accepted_move_to_another(
    bench: Bench, load_for_test: LoadProgram, leaving: Leaving
) -> None:
    """With net.ipv4.tcp_migrate_req, connections that wait to be accepted move to a member that is left."""
    plan = Plan(strategy=Strategy.SLOTS, protocol=Protocol.TCP, leaving=leaving, migrate=True)
    record = carry_out(bench, load_for_test, plan)
    assert record.pending
    for each in record.pending:
        assert each.receiver in set(orders(plan)[2 + each.left])


def _after_leaving(record: Record, client: int) -> int:
    """Return how many of a client's packets were sent after its member had left."""
    owner = record.owners()[client]
    order = orders(record.plan)
    return sum(each.client == client and not each.first and owner not in order[each.step] for each in record.sent)
