# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""SO_INCOMING_CPU in a group without a program: when it is set, who has it, and what is left when its owner leaves.

cases/test_neighbours.py has the option among everything else that decides.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family, each_protocol, ledger, promise, requires
from harness.model.layout import Family, Protocol

if TYPE_CHECKING:
    from harness.cases import Bench


SIZE, PREFERRED = 4, 2


@promise("incoming-cpu.moment")
@ledger("K19")
@each_protocol
@each_family
@pytest.mark.parametrize("moment", ["before-reuseport", "before-bind", "before-next", "after-all"])
def test_option_counts_whenever_it_was_set(bench: Bench, protocol: Protocol, family: Family, moment: str) -> None:
    """SO_INCOMING_CPU counts whether it was set before SO_REUSEPORT, before the member joined, or later.

    A member that joins with it is counted as it joins (`__reuseport_get_incoming_cpu`), one that has joined as it sets
    the option (`reuseport_update_incoming_cpu`).
    """
    here = bench.wire.settings.cpu
    members = []
    for place in range(SIZE):
        number = bench.open(protocol, family, reuseport=False, bind=False)
        cpu = here if place == PREFERRED else here + 1 + place
        if moment == "before-reuseport":
            bench.set_option(number, socket.SO_INCOMING_CPU, cpu)
        bench.set_option(number, socket.SO_REUSEPORT, 1)
        if moment == "before-bind":
            bench.set_option(number, socket.SO_INCOMING_CPU, cpu)
        bench.bind(number, family)
        if moment == "before-next":
            bench.set_option(number, socket.SO_INCOMING_CPU, cpu)
        members.append(number)
    if moment == "after-all":
        for place, number in enumerate(members):
            bench.set_option(number, socket.SO_INCOMING_CPU, here if place == PREFERRED else here + 1 + place)
    assert bench.send_and_find_each(bench.packets(20, 0, protocol, family)) == [members[PREFERRED]] * 20


@promise("incoming-cpu.several")
@ledger("K19")
@each_protocol
@each_family
def test_members_of_this_cpu_share_and_the_others_get_nothing(bench: Bench, protocol: Protocol, family: Family) -> None:
    """Several members with the packet's CPU share by the hash; those of another CPU, or of none, get nothing.

    From the place on which the hash falls the next one with the CPU is taken (`reuseport_select_sock_by_hash`).
    """
    members = bench.group(6, protocol, family)
    here = bench.wire.settings.cpu
    for place, cpu in ((1, here), (2, here + 1), (4, here)):
        bench.set_option(members[place], socket.SO_INCOMING_CPU, cpu)
    received = set(bench.send_and_find_each(bench.packets(60, 0, protocol, family)))
    assert received == {members[1], members[4]}


@promise("incoming-cpu.owner-leaves")
@ledger("K19")
@each_protocol
@each_family
def test_member_that_leaves_takes_its_preference_along(bench: Bench, protocol: Protocol, family: Family) -> None:
    """When the one member of this CPU closes, the others share again (`__reuseport_put_incoming_cpu`)."""
    members = bench.group(SIZE, protocol, family)
    bench.set_option(members[PREFERRED], socket.SO_INCOMING_CPU, bench.wire.settings.cpu)
    assert set(bench.send_and_find_each(bench.packets(20, 0, protocol, family))) == {members[PREFERRED]}
    bench[members[PREFERRED]].close()
    staying = {number for number in members if number != members[PREFERRED]}
    assert set(bench.send_and_find_each(bench.packets(60, 0, protocol, family))) == staying


@promise("incoming-cpu.listens-again")
@ledger("K19")
@each_family
def test_listener_brings_its_preference_back(bench: Bench, family: Family) -> None:
    """A listener that was shut down and listens again is preferred as before."""
    members = bench.group(SIZE, Protocol.TCP, family)
    preferred = members[PREFERRED]
    bench.set_option(preferred, socket.SO_INCOMING_CPU, bench.wire.settings.cpu)
    bench[preferred].shutdown(socket.SHUT_RDWR)
    others = set(members) - {preferred}
    assert set(bench.send_and_find_each(bench.packets(60, 0, Protocol.TCP, family))) == others
    bench[preferred].listen(128)
    assert set(bench.send_and_find_each(bench.packets(20, 0, Protocol.TCP, family))) == {preferred}


@promise("incoming-cpu.closed")
@requires("tcp_migrate_req")
@each_family
@pytest.mark.parametrize(
    "keeps", [pytest.param(True, marks=ledger("K19"), id="keeps"), pytest.param(False, id="gives-up")]
)
def test_listener_that_was_stopped_may_keep_or_give_up_its_preference(
    bench: Bench, family: Family, keeps: bool
) -> None:
    """A listener that waits among the closed ones of its group has its preference when it listens again, or none.

    It is counted there, too (`__reuseport_add_closed_sock`), and may give the preference up meanwhile.
    """
    bench.wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    members = bench.group(SIZE, Protocol.TCP, family)
    preferred = members[PREFERRED]
    bench.set_option(preferred, socket.SO_INCOMING_CPU, bench.wire.settings.cpu)
    bench[preferred].shutdown(socket.SHUT_RDWR)
    others = set(members) - {preferred}
    assert set(bench.send_and_find_each(bench.packets(60, 0, Protocol.TCP, family))) == others
    if not keeps:
        bench.set_option(preferred, socket.SO_INCOMING_CPU, -1)
    bench[preferred].listen(128)
    # A small guest's listener takes 96 requests of peers that it does not know (`tcp_conn_request`).
    received = set(bench.send_and_find_each(bench.packets(60, 0, Protocol.TCP, family)))
    assert received == ({preferred} if keeps else set(members))
