# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel's list of sockets beside the groups, and members that are killed from outside (sock_diag(7), ss -K)."""

from __future__ import annotations

import errno
import random
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family, each_protocol, ledger, promise, requires
from harness.kernel.refusal import refused
from harness.model.abi import BY_HASH, Result
from harness.model.layout import Family, Protocol
from harness.wire.sock_diag import kill, listed

if TYPE_CHECKING:
    from harness.cases import AttachReference, Bench, LoadProgram


STEPS = 40
BOUND, CONNECTED = 7, 1  # TCP_CLOSE, TCP_ESTABLISHED


def cookies(protocol: Protocol, family: Family, bench: Bench) -> list[int]:
    """Return the cookies of the sockets on the bench's port as the kernel lists them."""
    return [each.cookie for each in listed(protocol, family, bench.port)]


@promise("sock-diag.comings-and-goings")
@each_protocol
@each_family
def test_list_follows_members_that_come_and_go(bench: Bench, protocol: Protocol, family: Family) -> None:
    """sock_diag lists each member once, and none that left, after every join and every close (`udp_diag_dump`)."""
    source = random.Random(f"{protocol} {family}")
    present: list[int] = []
    for _ in range(STEPS):
        if present and source.random() < 0.4:
            number = present.pop(source.randrange(len(present)))
            bench[number].close()
        else:
            present.append(bench.open(protocol, family))
        assert sorted(cookies(protocol, family, bench)) == sorted(bench.cookie(number) for number in present)


@promise("sock-diag.selected")
@each_protocol
@each_family
def test_every_listed_member_can_be_selected(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol, family: Family
) -> None:
    """What is listed on a group's port are the members that the program selects, by their cookies, in every slot."""
    members = bench.group(12, protocol, family)
    attach_reference(members)
    for leaving in (3, 11, 0):
        bench[members[leaving]].close()
    found = {
        bench.cookie(number)
        for number in bench.send_and_find_each([bench.packet(index, protocol, family) for index in range(12)])
        if number is not None
    }
    assert found == set(cookies(protocol, family, bench))


def kill_member(bench: Bench, number: int, protocol: Protocol, family: Family) -> None:
    """Kill one member of a group.

    The kernel looks for it as for a packet's socket, and so through the group, by the hash. The peer's port in the name
    decides on whom that falls; a name that leads to another member is ENOENT.
    """
    (found,) = (each for each in listed(protocol, family, bench.port) if each.cookie == bench.cookie(number))
    for port in range(1, 1000):
        try:
            kill(protocol, family, found.id[:2] + port.to_bytes(2, "big") + found.id[4:])
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        else:
            return
    raise AssertionError(f"member {number} could not be killed by any of 999 names")


@promise("sock-diag.kill-listener")
@requires("sock_destroy")
@each_family
def test_killed_listener_leaves_group_and_slot(bench: Bench, attach_reference: AttachReference, family: Family) -> None:
    """A listener that is killed is out of its group and its slot; its requests are reset, the others go on.

    `tcp_abort` ends it as a close does.
    """
    members = bench.group(4, Protocol.TCP, family)
    program = attach_reference(members)
    kill_member(bench, members[1], Protocol.TCP, family)
    expected = [members[0], None, members[2], members[3]]
    packets = [bench.packet(index, Protocol.TCP, family) for index in range(4)]
    assert bench.send_and_find_each(packets) == expected
    assert program.new_results() == {Result.PASS: 3, Result.DROP_ERR_SK_SELECT_REUSEPORT: 1}
    staying = sorted(bench.cookie(each) for each in expected if each is not None)
    assert sorted(cookies(Protocol.TCP, family, bench)) == staying


@promise("sock-diag.kill-migrates")
@requires("sock_destroy", "select_or_migrate", "migrating_sk", "get_socket_cookie")
@each_family
def test_connections_of_a_killed_listener_migrate(bench: Bench, load_for_test: LoadProgram, family: Family) -> None:
    """What a killed listener had not accepted migrates, as when it closes (`tcp_abort`, `inet_csk_listen_stop`)."""
    members = bench.group(2, Protocol.TCP, family)
    program = load_for_test("migrate", size=2)
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    for index in (0, 1):
        packet = bench.packet(index, Protocol.TCP, family)
        assert bench.send_ack(packet, bench.send_syn(packet)) == []
    program.state = BY_HASH  # one is left
    kill_member(bench, members[0], Protocol.TCP, family)
    assert bench.read() == {members[1]: [b"", b""]}


@promise("sock-diag.kill-udp")
@requires("sock_destroy")
@each_family
@pytest.mark.parametrize("place", [0, 1, 3])
def test_killed_udp_member_on_an_address_stays(
    bench: Bench, attach_reference: AttachReference, family: Family, place: int
) -> None:
    """A UDP member on an address that is killed gets ECONNABORTED once, and stays in group and slot.

    It is disconnected, not closed (`udp_abort`, `__udp_disconnect`).
    """
    members = bench.group(4, Protocol.UDP, family, family.server)
    program = attach_reference(members)
    kill_member(bench, members[place], Protocol.UDP, family)
    with refused(errno.ECONNABORTED):
        bench[members[place]].recv(1)
    packets = [bench.packet(index, Protocol.UDP, family) for index in range(4)]
    assert bench.send_and_find_each(packets) == members
    assert program.new_results() == {Result.PASS: 4}


@promise("sock-diag.kill-udp-wildcard")
@requires("sock_destroy")
@pytest.mark.parametrize(
    ("family", "place"),
    [
        (Family.IPV4, 0),
        (Family.IPV4, 1),
        pytest.param(Family.IPV4, 3, marks=ledger("K39")),
        pytest.param(Family.IPV6, 0, marks=ledger("K39")),
        (Family.IPV6, 1),
        (Family.IPV6, 3),
    ],
)
def test_killed_udp_member_on_the_wildcard_leaves_the_others_alone(
    bench: Bench, attach_reference: AttachReference, family: Family, place: int
) -> None:
    """A UDP member on the wildcard that is killed leaves group and slot, and the others receive what they did before.

    It is hashed anew, though its address is the same (`__udp_disconnect`, `udp_lib_rehash`), keeps the port, and stands
    where it stood in the bucket. If that is before all others, it receives everything, as no group is asked for it:
    the newest of IPv4, the oldest of IPv6. The same happens to one that is disconnected by connect() to AF_UNSPEC.
    """
    members = bench.group(4, Protocol.UDP, family)
    program = attach_reference(members)
    kill_member(bench, members[place], Protocol.UDP, family)
    with refused(errno.ECONNABORTED):
        bench[members[place]].recv(1)
    packets = [bench.packet(index, Protocol.UDP, family) for index in range(4)]
    expected = [None if number == members[place] else number for number in members]
    assert bench.send_and_find_each(packets) == expected
    assert program.new_results() == {Result.PASS: 3, Result.DROP_ERR_SK_SELECT_REUSEPORT: 1}


@promise("connected.disconnected-apart")
@pytest.mark.parametrize(
    ("family", "place"),
    [
        pytest.param(Family.IPV4, 3, marks=ledger("K39")),
        (Family.IPV4, 0),
        pytest.param(Family.IPV6, 0, marks=ledger("K39")),
        (Family.IPV6, 3),
    ],
)
def test_disconnecting_a_member_that_has_no_peer_leaves_the_others_alone(
    bench: Bench, attach_reference: AttachReference, family: Family, place: int
) -> None:
    """A wildcard UDP member without a peer that connects to AF_UNSPEC takes nothing from the other members."""
    members = bench.group(4, Protocol.UDP, family)
    attach_reference(members)
    bench.disconnect(members[place])
    packets = [bench.packet(index, Protocol.UDP, family) for index in range(4) if index != place]
    assert bench.send_and_find_each(packets) == [number for number in members if number != members[place]]


@promise("sock-diag.kill-connected")
@requires("sock_destroy")
@each_family
def test_killed_connected_socket_hears_its_peer_no_more(bench: Bench, family: Family) -> None:
    """A connected UDP socket is found by its four-tuple, whatever group is beside it; killed, it has no peer any more.

    Its peer's datagrams then go where everyone else's do.
    """
    members = bench.group(3, Protocol.UDP, family, family.server)
    bench[members[1]].connect((family.peer, 555))
    (connected,) = (each for each in listed(Protocol.UDP, family, bench.port) if each.state == CONNECTED)
    kill(Protocol.UDP, family, connected.id)
    with refused(errno.ECONNABORTED):
        bench[members[1]].recv(1)
    assert [each.state for each in listed(Protocol.UDP, family, bench.port)] == [BOUND] * 3
    with refused(errno.ENOTCONN):
        bench[members[1]].getpeername()
    packet = bench.packet(0, Protocol.UDP, family, source_port=555)
    assert bench.send_and_find(packet) is not None
