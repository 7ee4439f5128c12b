# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a sockmap or sockhash may hold that a sockarray may not, and what a selection of it comes to."""

from __future__ import annotations

import errno
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from harness.cases import FOUR_TUPLE_HASH, each_family, each_protocol, ledger, promise, requires
from harness.kernel.refusal import refused
from harness.kernel.release import running
from harness.loader.maps import create_map
from harness.model.abi import Result
from harness.model.layout import Family, InnerMap, Protocol
from harness.model.outcome import ReplyKind

if TYPE_CHECKING:
    from harness.cases import Bench, LoadProgram

pytestmark = requires("select_from_sockmap", "udp_in_sockmap")

each_map = pytest.mark.parametrize("inner_map", [InnerMap.SOCKMAP, InnerMap.SOCKHASH])


@promise("sockmap.foreign")
@each_protocol
@each_map
def test_socket_of_another_group_through_a_sockmap(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, inner_map: InnerMap
) -> None:
    """A foreign socket from a sockmap is refused as one from a sockarray: EBADFD, EPROTOTYPE or EAFNOSUPPORT.

    No foreign socket receives the packet, and with SK_DROP no member does (`sk_select_reuseport`).
    """
    number = bench.open(protocol)
    other_protocol = Protocol.TCP if protocol is Protocol.UDP else Protocol.UDP
    strangers = {
        errno.EPROTOTYPE: bench.open(other_protocol),
        errno.EAFNOSUPPORT: bench.open(protocol, Family.IPV6, v6only=True),
        errno.EBADFD: bench.open(protocol, address="127.0.0.1"),
    }
    program = load_for_test("reference", inner_map=inner_map, size=len(strangers) + 1)
    bench.attach(number, program)
    bench.fill(program.inner, [*strangers.values(), number])
    answers = {}
    for index, error in enumerate(strangers):
        assert bench.send_and_find(bench.packet(index, protocol)) is None
        answers[error] = program.select_errors()
    assert answers == {error: (-error,) for error in strangers}
    assert bench.send_and_find(bench.packet(len(strangers), protocol)) == number


@promise("sockmap.no-group")
@each_protocol
@each_family
@each_map
def test_socket_of_no_group_through_a_sockmap(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, family: Family, inner_map: InnerMap
) -> None:
    """A sockmap takes a socket that has no SO_REUSEPORT; selecting it is EINVAL (`sk_select_reuseport`)."""
    member = bench.open(protocol, family)
    program = load_for_test("reference", inner_map=inner_map, size=1)
    bench.attach(member, program)
    bench.port += 1
    alone = bench.open(protocol, family, reuseport=False)
    bench.port -= 1
    bench.fill(program.inner, [alone])
    assert bench.send_and_find(bench.packet(0, protocol, family)) is None
    assert program.select_errors() == (-errno.EINVAL,)


@promise("sockmap.accepted")
@each_family
@each_map
def test_accepted_connection_through_a_sockmap(
    bench: Bench, load_for_test: LoadProgram, family: Family, inner_map: InnerMap
) -> None:
    """A sockmap takes a connection that a member accepted; it is in no group, and selecting it is EINVAL."""
    member = bench.open(Protocol.TCP, family)
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == member
    (connection,) = bench.take_connections()
    program = load_for_test("reference", inner_map=inner_map, size=2)
    bench.attach(member, program)
    bench.fill(program.inner, [bench.adopt(connection), member])
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) is None
    assert program.select_errors() == (-errno.EINVAL,)
    assert bench.send_and_find(bench.packet(1, Protocol.TCP, family)) == member


@promise("sockmap.listener-in-map")
@each_family
@each_map
def test_children_of_a_listener_in_a_sockmap_leave_it_there(
    bench: Bench, load_for_test: LoadProgram, family: Family, inner_map: InnerMap
) -> None:
    """Connections that a listener in a sockmap accepted may close: the listener stays in the map, and selectable.

    A child gets back the plain protocol operations (`sk_clone_lock`, `tcp_bpf_clone`).
    """
    members = bench.group(2, Protocol.TCP, family)
    program = load_for_test("reference", inner_map=inner_map, size=2)
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    for _ in range(3):
        assert bench.send_and_find(bench.packet(1, Protocol.TCP, family)) == members[1]
        bench.reset_connections()
    assert program.new_results() == {Result.PASS: 3}


@promise("sockmap.close")
@each_protocol
@each_family
@each_map
def test_socket_that_closes_leaves_its_sockmap(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, family: Family, inner_map: InnerMap
) -> None:
    """A socket that closes leaves its place in a sockmap empty: selecting it is ENOENT (`sock_map_close`)."""
    members = bench.group(2, protocol, family)
    program = load_for_test("reference", inner_map=inner_map, size=2)
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    bench[members[1]].close()
    assert bench.send_and_find(bench.packet(1, protocol, family)) is None
    assert program.select_errors() == (-errno.ENOENT,)


@promise("sockmap.shut-down")
@ledger("K46")
@requires("tcp_migrate_req")
@each_family
@each_map
def test_listener_that_is_shut_down_is_selected_no_more(
    bench: Bench, load_for_test: LoadProgram, family: Family, inner_map: InnerMap
) -> None:
    """A listener that is shut down is selected from a sockmap no more than from a sockarray: the SYN is reset.

    With the bug it stays in the map until it is closed, and the group's id is its own still: the SYN is selected for a
    socket that does not listen, and lost (`sk_select_reuseport`, b8b8315e39ff).
    """
    bench.wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    members = bench.group(2, Protocol.TCP, family)
    program = load_for_test("reference", inner_map=inner_map, size=2)
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    bench[members[1]].shutdown(socket.SHUT_RDWR)
    assert bench.send_and_capture(bench.packet(1, Protocol.TCP, family)) == [ReplyKind.RESET]
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == members[0]


@promise("sockmap.connected-udp")
@each_family
@each_map
def test_connected_member_through_a_sockmap(
    bench: Bench, load_for_test: LoadProgram, family: Family, inner_map: InnerMap
) -> None:
    """A connected UDP member in a sockmap receives what the program selects it for, from whomever, up to Linux 6.12.

    Since 78c91ae2c6de (6.13) it is in no group, and selecting it is EINVAL. Its own peer reaches it always.
    """
    members = bench.group(3, Protocol.UDP, family, family.server)
    program = load_for_test("reference", inner_map=inner_map, size=3)
    bench.attach(members[0], program)
    bench[members[2]].connect((family.peer, 555))
    bench.fill(program.inner, members)
    left = running() >= FOUR_TUPLE_HASH
    assert bench.send_and_find(bench.packet(2, Protocol.UDP, family)) == (None if left else members[2])
    assert program.select_errors() == (-errno.EINVAL if left else 0,)
    assert bench.send_and_find(bench.packet(0, Protocol.UDP, family, source_port=555)) == members[2]
    assert bench.send_and_find(bench.packet(1, Protocol.UDP, family)) == members[1]


@promise("sockmap.connecting-udp")
@ledger("K9")
@each_family
@each_map
def test_member_of_a_sockmap_that_connects(
    bench: Bench, load_for_test: LoadProgram, family: Family, inner_map: InnerMap
) -> None:
    """A UDP member on the wildcard that connects leaves its group and stays in the sockmap: selecting it is EINVAL.

    What the sockmap has put into the socket is no slot of a sockarray, and stays as the socket leaves the group
    (`bpf_sk_reuseport_detach`, c9a368f1c0fb). Without it close() could not find the way to the protocol's own, and the
    port would be taken for ever.
    """
    members = bench.group(2, Protocol.UDP, family)
    program = load_for_test("reference", inner_map=inner_map, size=2)
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    bench[members[1]].connect((family.peer, 555))
    assert bench.send_and_find(bench.packet(1, Protocol.UDP, family)) is None
    assert program.select_errors() == (-errno.EINVAL,)
    from_peer = bench.packet(0, Protocol.UDP, family, source_port=555)
    assert bench.send_and_find(from_peer) == members[1]
    bench.close()
    assert bench.send_and_capture(from_peer) == [ReplyKind.PORT_UNREACHABLE]
    bench.open(Protocol.UDP, family, reuseport=False)


@promise("sockmap.unbound-udp")
@ledger("K34")
@each_family
@each_map
def test_unbound_socket_fits_in_no_sockmap(wire: object, family: Family, inner_map: InnerMap) -> None:
    """A UDP socket that is not bound fits in no sockmap: EOPNOTSUPP (`sock_map_sk_state_allowed`, 66efd3368ae1)."""
    with (
        closing(create_map(inner_map, max_entries=1)) as made,
        closing(socket.socket(family.address_family, socket.SOCK_DGRAM)) as unbound,
    ):
        with refused(errno.EOPNOTSUPP):
            made.put(0, unbound.fileno())
        unbound.bind((family.any, 0))
        made.put(0, unbound.fileno())
