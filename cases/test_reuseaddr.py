# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""SO_REUSEADDR beside SO_REUSEPORT: who may have a port with whom, and which of the two makes a group.

Each of the options has a rule of its own. Two sockets that meet on an address may both bind if one of the rules lets
them (`inet_bind_conflict`, `udp_lib_lport_inuse`).
"""

from __future__ import annotations

import errno
import socket
from contextlib import closing, contextmanager, nullcontext, suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cases import ANOTHER_USER, each_family, each_protocol, promise
from harness.group.sockets import reset_on_close
from harness.kernel.refusal import refused
from harness.model.abi import Result
from harness.model.layout import Family, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import Bench, LoadProgram


PORT, ADDR = "reuseport", "reuseaddr"
MANY = 12
LOOPBACK = {Family.IPV4: "127.0.0.1", Family.IPV6: "::1"}
OPTIONS = {PORT: socket.SO_REUSEPORT, ADDR: socket.SO_REUSEADDR}
COMBINATIONS = [frozenset(), frozenset({PORT}), frozenset({ADDR}), frozenset({PORT, ADDR})]


def make(
    bench: Bench,
    protocol: Protocol,
    family: Family,
    options: frozenset[str],
    *,
    v6only: bool | None = None,
    user: int | None = None,
) -> int:
    """Make a socket with some of the two options, and bind it to nothing; return its number."""
    number = bench.open(protocol, family, reuseport=False, v6only=v6only, user=user, bind=False)
    for name in options:
        bench.set_option(number, OPTIONS[name], 1)
    return number


def open_with(bench: Bench, protocol: Protocol, family: Family, options: frozenset[str], *, listen: bool = True) -> int:
    """Open a socket on the wildcard with some of the two options; return its number. OSError is the refusal."""
    number = make(bench, protocol, family, options)
    bench[number].bind((family.any, bench.port))
    if listen and protocol is Protocol.TCP:
        bench[number].listen(8)
    return number


def may_share(protocol: Protocol, one: frozenset[str], other: frozenset[str], *, listens: bool) -> bool:
    """Tell whether a second socket may bind: both have SO_REUSEPORT, or both SO_REUSEADDR and the first no listener."""
    return PORT in one & other or (ADDR in one & other and not (protocol is Protocol.TCP and listens))


@promise("reuseaddr.read")
@each_protocol
@each_family
def test_each_option_reads_as_it_was_set(bench: Bench, protocol: Protocol, family: Family) -> None:
    """getsockopt(2) tells of each option whether it was set, whatever the other is."""
    for options in COMBINATIONS:
        made = bench[make(bench, protocol, family, options)]
        assert {name for name, option in OPTIONS.items() if made.getsockopt(socket.SOL_SOCKET, option)} == options


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


@promise("reuseaddr.many")
@each_protocol
@each_family
def test_both_rules_hold_where_a_port_has_many(bench: Bench, protocol: Protocol, family: Family) -> None:
    """With more than ten sockets, too, for which the kernel looks by their address, the same options share a port."""
    wrong = []
    for one, other in product(COMBINATIONS[1:], COMBINATIONS):
        for _ in range(MANY):
            bench[make(bench, protocol, family, one)].bind((family.server, bench.port))
        accepted = False
        with suppress(OSError):
            bench[make(bench, protocol, family, other)].bind((family.server, bench.port))
            accepted = True
        if accepted != may_share(protocol, one, other, listens=False):
            wrong.append(f"{sorted(one)} then {sorted(other)}: {'accepted' if accepted else 'refused'}")
        bench.close()
    assert not wrong, "\n".join(wrong)


@promise("reuseaddr.former-member")
@each_family
def test_former_member_opens_the_port_to_no_other(bench: Bench, family: Family) -> None:
    """An address of a TCP port that a socket without SO_REUSEPORT has is refused, though a member had it before.

    The port keeps the former member's address and user, to let others like it in without a look at each socket; with a
    socket that does not share, these count no more (`sk_reuseport_match`).
    """
    loopback = LOOPBACK[family]
    member = bench.open(Protocol.TCP, family, family.server)
    bench.open(Protocol.TCP, family, loopback, reuseport=False)
    bench[member].close()
    bench.open(Protocol.TCP, family, family.server, reuseport=False)
    with refused(errno.EADDRINUSE):
        bench.open(Protocol.TCP, family, family.server)


@promise("reuseaddr.member-elsewhere")
@each_family
@pytest.mark.parametrize("on", ["address", "wildcard"])
def test_member_on_another_address_opens_the_port_to_no_conflict(bench: Bench, family: Family, on: str) -> None:
    """A member lets no socket in on another address, or on the wildcard, where one without SO_REUSEPORT is.

    What the port remembers of the member is good for the member's address alone (`inet_csk_update_fastreuse`).
    """
    loopback = LOOPBACK[family]
    bench.open(Protocol.TCP, family, loopback, reuseport=False)
    bench.open(Protocol.TCP, family, family.server)
    with refused(errno.EADDRINUSE):
        bench.open(Protocol.TCP, family, loopback if on == "address" else None)


@promise("reuseaddr.member-v6only")
def test_v6only_member_opens_the_port_to_no_ipv4_socket(bench: Bench) -> None:
    """A member with IPV6_V6ONLY on the wildcard lets no IPv4 socket in where one without SO_REUSEPORT is."""
    bench.open(Protocol.TCP, Family.IPV4, LOOPBACK[Family.IPV4], reuseport=False)
    bench.open(Protocol.TCP, Family.IPV6, v6only=True)
    with refused(errno.EADDRINUSE):
        bench.open(Protocol.TCP, Family.IPV4, LOOPBACK[Family.IPV4])


@promise("reuseaddr.group")
@each_protocol
@each_family
def test_reuseaddr_changes_nothing_about_the_group(
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
def test_reuseaddr_alone_makes_no_group(bench: Bench, load_for_test: LoadProgram, family: Family) -> None:
    """UDP sockets that share a port by SO_REUSEADDR alone are no group: one of them receives all, no program fits."""
    for _ in range(3):
        open_with(bench, Protocol.UDP, family, frozenset({ADDR}))
    assert len(set(bench.send_and_find_each(bench.packets(20, 0, Protocol.UDP, family)))) == 1
    with refused(errno.EINVAL):
        bench.attach(0, load_for_test("reference", size=1))


@promise("reuseaddr.beside-a-member")
@each_family
def test_socket_without_reuseport_is_no_member(bench: Bench, family: Family) -> None:
    """A UDP socket with SO_REUSEADDR alone shares a port with one that has both options, but is in no group with it."""
    for options in ({ADDR}, {PORT, ADDR}):
        open_with(bench, Protocol.UDP, family, frozenset(options))
    assert len(set(bench.send_and_find_each(bench.packets(20, 0, Protocol.UDP, family)))) == 1


@promise("reuseaddr.users")
@each_family
def test_users_may_share_a_port_but_no_group(bench: Bench, family: Family) -> None:
    """UDP sockets of two users may share a port by SO_REUSEADDR, but SO_REUSEPORT makes no group of them."""
    for user in (None, ANOTHER_USER):
        bench.bind(make(bench, Protocol.UDP, family, frozenset({PORT, ADDR}), user=user), family)
    assert len(set(bench.send_and_find_each(bench.packets(20, 0, Protocol.UDP, family)))) == 1


@promise("reuseaddr.second-listener")
@each_family
def test_second_listener_needs_reuseport(bench: Bench, family: Family) -> None:
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


@promise("reuseaddr.families")
@pytest.mark.parametrize("first", Family)
def test_listener_of_the_other_family_keeps_the_port_taken(bench: Bench, first: Family) -> None:
    """A v6only listener beside an IPv4 one changes nothing for a third socket: EADDRINUSE in both families.

    The two share a bind bucket, and what is said of it must stay true of each (b9470c27607b was wrong about it).
    """
    second = next(family for family in Family if family is not first)
    for family in (first, second):
        bench.bind(make(bench, Protocol.TCP, family, frozenset({ADDR}), v6only=_v6only(family)), family)
    for family in Family:
        number = make(bench, Protocol.TCP, family, frozenset({ADDR}), v6only=_v6only(family))
        with refused(errno.EADDRINUSE):
            bench[number].bind((family.any, bench.port))


def _v6only(family: Family) -> bool | None:
    return True if family is Family.IPV6 else None


@promise("reuseaddr.connect-then-listen")
@each_family
def test_bound_socket_listens_after_a_connect_that_failed(bench: Bench, family: Family) -> None:
    """A socket that is bound and fails to connect, to the closed port that it is bound to, may listen afterwards.

    connect() gives it an address, and its failure takes that back: it is found on the wildcard again
    (`inet_bhash2_update_saddr`).
    """
    for _ in range(2):
        number = open_with(bench, Protocol.TCP, family, frozenset({ADDR}), listen=False)
    bench[number].setblocking(True)
    with refused(errno.ECONNREFUSED):
        bench[number].connect((family.server, bench.port + 1))
    bench[number].setblocking(False)
    bench[number].listen(8)
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == number


@promise("reuseaddr.connect-to-any")
@each_family
def test_connecting_to_the_wildcard_reaches_a_group_of_this_machine(bench: Bench, family: Family) -> None:
    """connect() to the wildcard address means this machine: a member of the group on the port accepts it."""
    members = bench.group(3, Protocol.TCP, family)
    with closing(socket.socket(family.address_family, socket.SOCK_STREAM)) as client:
        reset_on_close(client)
        client.connect((family.any, bench.port))
        (receiver,) = bench.read()
        assert receiver in members


@promise("reuseaddr.outgoing-port")
@each_family
def test_port_of_an_outgoing_connection_is_not_to_be_shared(bench: Bench, family: Family) -> None:
    """The port that the kernel chose for an outgoing connection is refused to a bind(), also with SO_REUSEPORT."""
    bench.open(Protocol.TCP, family)
    with closing(socket.socket(family.address_family, socket.SOCK_STREAM)) as client:
        reset_on_close(client)
        client.connect((family.server, bench.port))
        bench.read()
        port = client.getsockname()[1]
        for options in COMBINATIONS:
            number = make(bench, Protocol.TCP, family, options)
            with refused(errno.EADDRINUSE):
                bench[number].bind((family.server, port))


@promise("reuseaddr.time-wait")
@each_family
def test_connection_in_time_wait_has_its_listeners_options(bench: Bench, family: Family) -> None:
    """A connection in TIME_WAIT keeps its listener's port for those with whom the listener would have shared it.

    Its own socket has inherited the options (`inet_bind_conflict`, `inet_twsk_bind_conflict`).
    """
    wrong = []
    for one, other in product(COMBINATIONS, COMBINATIONS):
        port = leave_time_wait(family, one)
        number = make(bench, Protocol.TCP, family, other)
        accepted = False
        with suppress(OSError):
            bench[number].bind((family.server, port))
            accepted = True
        if accepted != may_share(Protocol.TCP, one, other, listens=False):
            wrong.append(f"{sorted(one)} then {sorted(other)}: {'accepted' if accepted else 'refused'}")
    assert not wrong, "\n".join(wrong)


def leave_time_wait(family: Family, options: frozenset[str]) -> int:
    """Leave a connection of a listener in TIME_WAIT; return the port."""
    with (
        closing(socket.socket(family.address_family, socket.SOCK_STREAM)) as listener,
        closing(socket.socket(family.address_family, socket.SOCK_STREAM)) as client,
    ):
        for name in options:
            listener.setsockopt(socket.SOL_SOCKET, OPTIONS[name], 1)
        listener.bind((family.server, 0))
        listener.listen()
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.shutdown(socket.SHUT_WR)  # the first to end it waits
        assert client.recv(1) == b""
        client.shutdown(socket.SHUT_WR)
        assert accepted.recv(1) == b""
        accepted.close()
        port: int = listener.getsockname()[1]
        return port


@promise("reuseaddr.exhausted")
@each_protocol
@each_family
@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda options: "+".join(sorted(options)) or "none")
def test_port_that_the_kernel_picks_may_be_one_of_a_group(
    bench: Bench, protocol: Protocol, family: Family, options: frozenset[str]
) -> None:
    """bind() to port 0 may give a UDP socket a port that others have, where its options let it share; TCP never.

    Shown with a single port to pick from (`udp_lib_get_port`, `inet_csk_find_open_port`); EADDRINUSE otherwise.
    """
    open_with(bench, protocol, family, options)
    number = make(bench, protocol, family, options)
    shares = protocol is Protocol.UDP and options
    with one_port_to_pick(bench.port), nullcontext() if shares else refused(errno.EADDRINUSE):
        bench[number].bind((family.any, 0))
        assert bench[number].getsockname()[1] == bench.port


@promise("reuseaddr.exhausted-shared")
@each_family
@pytest.mark.parametrize("same_user", [True, False], ids=["same-user", "another-user"])
@pytest.mark.parametrize("listens", [False, True], ids=["bound", "listening"])
def test_port_that_the_kernel_picks_may_be_shared_if_that_makes_no_group(
    bench: Bench, family: Family, same_user: bool, listens: bool
) -> None:
    """With net.ipv4.ip_autobind_reuse bind() to port 0 gives a TCP socket a port that others have by SO_REUSEADDR.

    Not one with a listener, and not one of a socket with whom it could come to be of one group: SO_REUSEPORT and the
    user are the same (`inet_bind_conflict`, Linux 5.7).
    """
    bench.wire.settings.set("net/ipv4/ip_autobind_reuse", 1)
    wrong = []
    for one, other in product(COMBINATIONS, COMBINATIONS):
        open_with(bench, Protocol.TCP, family, one, listen=listens)
        number = make(bench, Protocol.TCP, family, other, user=None if same_user else ANOTHER_USER)
        shares = ADDR in one & other and not listens and not (PORT in one & other and same_user)
        accepted = False
        with one_port_to_pick(bench.port), suppress(OSError):
            bench[number].bind((family.any, 0))
            accepted = bench[number].getsockname()[1] == bench.port
        if accepted != shares:
            wrong.append(f"{sorted(one)} then {sorted(other)}: {'accepted' if accepted else 'refused'}")
        bench.close()
    assert not wrong, "\n".join(wrong)


@contextmanager
def one_port_to_pick(port: int) -> Iterator[None]:
    """Leave the kernel one port to pick from (ip-sysctl: ip_local_port_range)."""
    ports = Path("/proc/sys/net/ipv4/ip_local_port_range")
    before = ports.read_text()
    ports.write_text(f"{port} {port}")
    try:
        yield
    finally:
        ports.write_text(before)
