# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""SO_REUSEADDR beside SO_REUSEPORT: who may have a port with whom, and which of the two makes a group.

Each of the options has a rule of its own. Two sockets that meet on an address may both bind if one of the rules lets
them (`inet_bind_conflict`, `udp_lib_lport_inuse`).
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family, each_protocol, promise
from harness.kernel.refusal import refused
from harness.model.abi import Result
from harness.model.layout import Family, Protocol

if TYPE_CHECKING:
    from harness.cases import Bench, LoadProgram


PORT, ADDR = "reuseport", "reuseaddr"
OPTIONS = {PORT: socket.SO_REUSEPORT, ADDR: socket.SO_REUSEADDR}
COMBINATIONS = [frozenset(), frozenset({PORT}), frozenset({ADDR}), frozenset({PORT, ADDR})]


def open_with(
    bench: Bench, protocol: Protocol, family: Family, options: frozenset[str], *, listen: bool = True
) -> int:
    """Open a socket on the wildcard with some of the two options; return its number. OSError is the refusal."""
    number = bench.open(protocol, family, reuseport=False, bind=False)
    for name in options:
        bench.set_option(number, OPTIONS[name], 1)
    bench[number].bind((family.any, bench.port))
    if listen and protocol is Protocol.TCP:
        bench[number].listen(8)
    return number


def may_share(protocol: Protocol, one: frozenset[str], other: frozenset[str], *, listens: bool) -> bool:
    """Tell whether a second socket may bind: both have SO_REUSEPORT, or both SO_REUSEADDR and the first no listener."""
    return PORT in one & other or (ADDR in one & other and not (protocol is Protocol.TCP and listens))


@promise("reuseaddr.bind")
@each_protocol
@each_family
@pytest.mark.parametrize("listens", [False, True], ids=["bound", "listening"])
def test_either_option_lets_two_sockets_share_if_both_have_it(
    bench: Bench, protocol: Protocol, family: Family, listens: bool
) -> None:
    """Two sockets share a port if both have SO_REUSEPORT, or both SO_REUSEADDR and none of them is a listener."""
    wrong = []
    for one, other in product(COMBINATIONS, COMBINATIONS):
        open_with(bench, protocol, family, one, listen=listens)
        accepted = False
        with suppress(OSError):
            open_with(bench, protocol, family, other, listen=False)
            accepted = True
        if accepted != may_share(protocol, one, other, listens=listens):
            wrong.append(f"{sorted(one)} then {sorted(other)}: {'accepted' if accepted else 'refused'}")
        bench.close()
    assert not wrong, "\n".join(wrong)


@promise("reuseaddr.group")
@each_protocol
@each_family
def test_second_option_changes_nothing_about_the_group(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, family: Family
) -> None:
    """Members that have SO_REUSEADDR too are of one group with those that have not, and the program selects each."""
    program = load_for_test("reference", size=4)
    members = [
        open_with(bench, protocol, family, frozenset({PORT, ADDR} if place % 2 else {PORT})) for place in range(4)
    ]
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    packets = [bench.packet(index, protocol, family) for index in range(4)]
    assert bench.send_and_find_each(packets) == members
    assert program.new_results() == {Result.PASS: 4}


@promise("reuseaddr.no-group")
@each_family
def test_sharing_by_address_alone_makes_no_group(bench: Bench, load_for_test: LoadProgram, family: Family) -> None:
    """UDP sockets that share a port by SO_REUSEADDR alone are no group: one of them receives all, no program fits."""
    for _ in range(3):
        open_with(bench, Protocol.UDP, family, frozenset({ADDR}))
    assert len(set(bench.send_and_find_each(bench.packets(20, 0, Protocol.UDP, family)))) == 1
    with refused(errno.EINVAL):
        bench.attach(0, load_for_test("reference", size=1))


@promise("reuseaddr.second-listener")
@each_family
def test_second_listener_needs_the_port_option(bench: Bench, family: Family) -> None:
    """Two TCP sockets may be bound by SO_REUSEADDR, but only one of them may listen: EADDRINUSE for the other."""
    first, second = (open_with(bench, Protocol.TCP, family, frozenset({ADDR}), listen=False) for _ in range(2))
    bench[first].listen(8)
    with refused(errno.EADDRINUSE):
        bench[second].listen(8)
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == first


@promise("reuseaddr.programmed-apart")
@each_protocol
@each_family
def test_second_socket_with_a_program_of_its_own_is_kept_out(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, family: Family
) -> None:
    """A socket that got a program before bind() has a group already, and may not bind where another group is.

    The conflict is found because its `sk_reuseport_cb` is set; EADDRINUSE.
    """
    first, second = (bench.open(protocol, family, bind=False) for _ in range(2))
    for number in (first, second):
        bench.attach(number, load_for_test("reference", size=1))
    bench.bind(first, family)
    with refused(errno.EADDRINUSE):
        bench[second].bind((family.any, bench.port))
    bench.detach(first)
    assert bench.send_and_find(bench.packet(0, protocol, family)) == first
