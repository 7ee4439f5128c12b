# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which sockets form a group, in what order they stand in it, and how they leave.

Two sockets are of one group if a program that is attached through one can select the other. Nothing else tells: a
program that selects a socket of another group only gets an error.
"""

from __future__ import annotations

import errno
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from harness.kernel.refusal import refused
from harness.model.abi import Result
from harness.model.layout import GROUP_SIZE, Bind, Family, InnerMap, Protocol, Shape
from harness.model.outcome import Delivered, Dropped
from harness.wire.veth import SERVER_LINK

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.group.bench import Bench
    from harness.group.delivery import Delivery
    from harness.group.reuseport_group import ReuseportGroup
    from harness.loader.program import Program

promise = pytest.mark.promise
both = pytest.mark.parametrize("protocol", Protocol)
families = pytest.mark.parametrize("family", Family)

NOBODY = 65534
INITIAL_SIZE = 128
"""Members that the kernel has room for before the group grows (net/core/sock_reuseport.c INIT_SOCKS)."""


@pytest.fixture
def grouped(bench: Bench, load_program: Callable[..., Program]) -> Callable[..., bool]:
    """Return the function that tells whether two sockets are of one group: one's program can select the other."""

    def of_one_group(one: int, other: int, *, protocol: Protocol, family: Family = Family.IPV4, **changes: Any) -> bool:
        with load_program("reference", size=1) as program:
            bench.attach(one, program)
            bench.fill(program.inner, [other])
            found = bench.send_and_find(bench.packet(0, protocol, family, **changes))
            assert program.new_results(), "the packet is one for the first socket's group"
            bench.detach(one)
            bench.empty(program.inner, 0)  # closing the map lets go of it too, but in the kernel's own time
        assert found in {other, None}
        return found == other

    return of_one_group


@promise("membership.group")
@both
@families
def test_sockets_alike_form_one_group(
    bench: Bench, grouped: Callable[..., bool], protocol: Protocol, family: Family
) -> None:
    """Family, address, port, device, user and v6only alike: one group, on the wildcard as on an address."""
    for address in (None, family.server):
        one, other = (bench.open(protocol, family, address) for _ in range(2))
        assert grouped(one, other, protocol=protocol, family=family)
        bench.close()


@promise("membership.user")
@both
@families
def test_another_user_is_kept_out(bench: Bench, protocol: Protocol, family: Family) -> None:
    """A port is shared only with the user who made the first socket, root being no exception."""
    bench.open(protocol, family)
    with refused(errno.EADDRINUSE):
        bench.open(protocol, family, user=NOBODY)
    bench.close()
    bench.open(protocol, family, user=NOBODY)
    with refused(errno.EADDRINUSE):
        bench.open(protocol, family)
    bench.open(protocol, family, user=NOBODY)


@promise("membership.user-of-creation")
@both
def test_socket_belongs_to_who_made_it(bench: Bench, grouped: Callable[..., bool], protocol: Protocol) -> None:
    """The user counts at socket(), not at bind(): a socket made earlier by another user may be handed on and bound."""
    one = bench.open(protocol, user=NOBODY, bind=False)
    other = bench.open(protocol, user=NOBODY, bind=False)
    for number in (one, other):  # bound by root
        bench[number].bind((Family.IPV4.any, bench.port))
        if protocol is Protocol.TCP:
            bench[number].listen(8)
    assert grouped(one, other, protocol=protocol)


@promise("membership.option-on-both")
@both
@families
@pytest.mark.parametrize("first", [True, False])
def test_option_is_needed_on_every_socket(bench: Bench, protocol: Protocol, family: Family, first: bool) -> None:
    """SO_REUSEPORT has to be set before bind() on each socket, the first included (socket(7))."""
    bench.open(protocol, family, reuseport=first)
    with refused(errno.EADDRINUSE):
        bench.open(protocol, family, reuseport=not first)


@promise("membership.address")
@both
@families
def test_another_address_is_another_group(
    bench: Bench, grouped: Callable[..., bool], protocol: Protocol, family: Family
) -> None:
    """The wildcard and an address share the port, not the group; the packet is the more specific one's."""
    wildcard = bench.open(protocol, family)
    specific = bench.open(protocol, family, family.server)
    assert bench.send_and_find_each(bench.packets(8, 0, protocol, family)) == [specific] * 8
    assert not grouped(specific, wildcard, protocol=protocol, family=family)


@promise("membership.device")
@both
@families
def test_another_device_is_another_group(
    bench: Bench, grouped: Callable[..., bool], protocol: Protocol, family: Family
) -> None:
    """Sockets that are bound to a device share the port with those that are not, but not the group.

    Which of the two a packet is for is another matter (cases/test_neighbours.py).
    """
    one = bench.open(protocol, family, device=SERVER_LINK)
    other = bench.open(protocol, family, device=SERVER_LINK)
    assert grouped(one, other, protocol=protocol, family=family)
    bench.close()
    pair = {bench.open(protocol, family), bench.open(protocol, family, device=SERVER_LINK)}
    one = the_receiver(bench, protocol, family)
    (other,) = pair - {one}
    assert not grouped(one, other, protocol=protocol, family=family)


def the_receiver(bench: Bench, protocol: Protocol, family: Family) -> int:
    """Return the one socket that several packets go to."""
    receivers = set(bench.send_and_find_each(bench.packets(8, 0, protocol, family)))
    assert len(receivers) == 1
    (receiver,) = receivers
    assert receiver is not None
    return receiver


@promise("membership.v6only")
@both
def test_v6only_is_part_of_the_group(bench: Bench, grouped: Callable[..., bool], protocol: Protocol) -> None:
    """A dual-stack socket and one for IPv6 alone are no group, though they share port and address."""
    for v6only in (False, True):
        one, other = (bench.open(protocol, Family.IPV6, v6only=v6only) for _ in range(2))
        assert grouped(one, other, protocol=protocol, family=Family.IPV6)
        bench.close()
    for first in (False, True):
        mixed = {v6only: bench.open(protocol, Family.IPV6, v6only=v6only) for v6only in (first, not first)}
        one = the_receiver(bench, protocol, Family.IPV6)
        (other,) = set(mixed.values()) - {one}
        assert not grouped(one, other, protocol=protocol, family=Family.IPV6)
        bench.close()


@promise("membership.dual-stack")
@both
def test_dual_stack_group_takes_ipv4(bench: Bench, grouped: Callable[..., bool], protocol: Protocol) -> None:
    """Where no IPv4 socket wants it, an IPv4 packet is the dual-stack group's; v6only sockets never see it."""
    one, other = (bench.open(protocol, Family.IPV6, v6only=False) for _ in range(2))
    assert grouped(one, other, protocol=protocol, family=Family.IPV4)
    assert grouped(one, other, protocol=protocol, family=Family.IPV6)
    bench.close()
    bench.open(protocol, Family.IPV6, v6only=True)
    assert bench.send_and_find(bench.packet(0, protocol, Family.IPV4)) is None


@promise("membership.ipv4-before-dual-stack")
@both
@pytest.mark.parametrize("ipv4_first", [True, False])
def test_ipv4_socket_goes_before_a_dual_stack_one(bench: Bench, protocol: Protocol, ipv4_first: bool) -> None:
    """Families never share a group; an IPv4 packet is for the IPv4 socket, whichever was there first."""
    order = (Family.IPV4, Family.IPV6) if ipv4_first else (Family.IPV6, Family.IPV4)
    made = {family: bench.open(protocol, family) for family in order}
    for family in Family:
        assert bench.send_and_find_each(bench.packets(8, 0, protocol, family)) == [made[family]] * 8


@promise("membership.dual-stack-context")
@both
def test_dual_stack_program_sees_an_ipv4_packet(
    bench: Bench, load_program: Callable[..., Program], protocol: Protocol
) -> None:
    """`eth_protocol` is the packet's, ETH_P_IP in a group of IPv6 sockets."""
    number = bench.open(protocol, Family.IPV6, v6only=False)
    with load_program("reference", size=1) as program:
        bench.attach(number, program)
        bench.fill(program.inner, [number])
        for family in Family:
            assert bench.send_and_find(bench.packet(0, protocol, family)) == number
            context, _ = program.context()
            assert context is not None
            assert (context.eth_protocol, context.source) == (family.eth_protocol, family.peer)
            assert context.bind_inany


@promise("membership.tcp-joins-at-listen")
@families
def test_tcp_socket_joins_as_it_listens(bench: Bench, load_program: Callable[..., Program], family: Family) -> None:
    """A TCP socket that is only bound is in no group: no map takes it, no connection reaches it."""
    first = bench.open(Protocol.TCP, family)
    second = bench.open(Protocol.TCP, family, listen=False)
    with load_program("reference", size=2) as program:
        bench.attach(first, program)
        with refused(errno.EINVAL):
            bench.fill(program.inner, [second])
        bench[second].listen(8)
        bench.fill(program.inner, [second])
        assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == second


@promise("membership.resurrected")
@families
def test_listener_that_listens_again_is_back(
    bench: Bench, load_program: Callable[..., Program], family: Family
) -> None:
    """shutdown() takes a listener out of the group, listen() brings it back, under the group's program."""
    first, second = bench.group(2, Protocol.TCP, family)
    with load_program("reference", size=2) as program:
        bench.attach(first, program)
        bench.fill(program.inner, [first, second])
        bench[second].shutdown(socket.SHUT_RDWR)
        assert bench.send_and_find(bench.packet(1, Protocol.TCP, family)) is None
        assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == first
        bench[second].listen(8)
        bench.fill(program.inner, [second], first=1)
        assert bench.send_and_find(bench.packet(1, Protocol.TCP, family)) == second


@promise("membership.resurrected-alone")
def test_last_listener_that_listens_again_keeps_no_program(bench: Bench, load_program: Callable[..., Program]) -> None:
    """A group whose only listener was shut down is gone, and its program with it (tcp_migrate_req is off)."""
    number = bench.open(Protocol.TCP)
    with load_program("reference", size=1) as program:
        bench.attach(number, program)
        bench[number].shutdown(socket.SHUT_RDWR)
        bench[number].listen(8)
        assert bench.send_and_find(bench.packet(7, Protocol.TCP)) == number
        with refused(errno.ENOENT):
            bench.detach(number)


@promise("membership.option-after-bind")
@families
def test_option_set_after_bind_lets_others_join(bench: Bench, grouped: Callable[..., bool], family: Family) -> None:
    """A UDP socket that sets SO_REUSEPORT after bind() has no group, until another one's bind() makes it one."""
    first = bench.open(Protocol.UDP, family, reuseport=False)
    bench[first].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    second = bench.open(Protocol.UDP, family)
    assert grouped(second, first, protocol=Protocol.UDP, family=family)


@promise("membership.option-cleared")
@both
@families
def test_clearing_the_option_ends_the_sharing(
    bench: Bench, load_program: Callable[..., Program], protocol: Protocol, family: Family
) -> None:
    """Once all members cleared SO_REUSEPORT no program runs and no hash is asked: one of them receives everything."""
    members = bench.group(3, protocol, family)
    with load_program("reference", size=1) as program:
        bench.attach(members[0], program)
        for number in members:
            bench[number].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        assert len(set(bench.send_and_find_each(bench.packets(20, 0, protocol, family)))) == 1
        assert not program.new_results()


def shape_of(protocol: Protocol, family: Family) -> Shape:
    """Return the plainest shape: wildcard, sockarray."""
    return Shape(protocol=protocol, family=family, bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)


@promise("membership.hole")
@both
@families
def test_last_member_fills_the_hole(
    make_group: Callable[..., ReuseportGroup],
    delivery_to: Callable[..., Delivery],
    protocol: Protocol,
    family: Family,
) -> None:
    """When a member closes, the last one takes its place in the order that the hash falls on (socket(7)).

    The model knows the order; every delivery by hash is held against it. Slots of the inner map keep their members.
    """
    group = make_group(shape_of(protocol, family), size=7, slots=8)
    deliver = delivery_to(group)
    for leaving in (0, 3, 6, 2):
        group.leave(leaving)
        for _ in range(8):
            verdict = deliver(deliver.command(7, pass_on_failure=True))
            assert isinstance(verdict, Delivered)
            assert verdict.result is Result.PASS_ERR_SK_SELECT_REUSEPORT
        assert deliver(deliver.command(leaving)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)
        for staying in group.layout.members:
            assert deliver(deliver.command(staying)) == Delivered(staying)


@promise("membership.order")
@both
def test_order_is_that_of_joining(
    make_group: Callable[..., ReuseportGroup], delivery_to: Callable[..., Delivery], protocol: Protocol
) -> None:
    """A member that joins stands last: UDP in the order of bind(), TCP in that of listen()."""
    group = make_group(shape_of(protocol, Family.IPV4), size=3, slots=9)
    deliver = delivery_to(group)
    for joining in range(3, 8):
        group.join(joining)
        for _ in range(6):
            assert isinstance(deliver(deliver.command(8, pass_on_failure=True)), Delivered)


@promise("membership.tcp-order")
def test_order_is_that_of_listening(bench: Bench, load_program: Callable[..., Program]) -> None:
    """TCP sockets stand in the order in which they listened, not in that in which they were bound."""
    bound = [bench.open(Protocol.TCP, listen=False) for _ in range(4)]
    order = [2, 0, 3, 1]
    for place in order:
        bench[bound[place]].listen(128)
    with load_program("reference", size=1) as program:
        bench.attach(bound[0], program)
        for _ in range(16):
            packet = bench.packet(0, Protocol.TCP)
            assert bench.send_and_find(packet) is None  # dropped, but its hash is on record
            _, hash_ = program.context()
            assert hash_ is not None
            bench.detach(bound[0])
            assert bench.send_and_find(packet) == bound[order[(hash_ * 4) >> 32]]
            bench.attach(bound[0], program)


@promise("membership.growth", "membership.growth-keeps-program")
@both
@families
def test_group_grows_over_its_first_room(
    bench: Bench, load_program: Callable[..., Program], protocol: Protocol, family: Family
) -> None:
    """A group of more than 128 members is moved to a larger array, with its program, number and `bind_inany`."""
    with load_program("reference", size=2 * INITIAL_SIZE + 2) as program:
        first = bench.open(protocol, family)
        bench.attach(first, program)
        members = [first, *bench.group(INITIAL_SIZE - 1, protocol, family)]
        bench.fill(program.inner, members)
        for total in (INITIAL_SIZE + 1, 2 * INITIAL_SIZE + 1):
            joining = bench.group(total - len(members), protocol, family)
            bench.fill(program.inner, joining, first=len(members))
            members += joining
            asked = [0, 1, INITIAL_SIZE - 1, INITIAL_SIZE, total - 1]
            packets = [bench.packet(index, protocol, family) for index in asked]
            assert bench.send_and_find_each(packets) == [members[index] for index in asked]
            context, _ = program.context()
            assert context is not None
            assert context.bind_inany


@promise("membership.shrink")
@both
def test_group_that_grew_shrinks_to_one(bench: Bench, protocol: Protocol) -> None:
    """All members but one may close in any order; the one that stays receives everything."""
    members = bench.group(INITIAL_SIZE + 2, protocol)
    staying = members[77]
    for number in (*reversed(members[78:]), *members[:77]):
        bench[number].close()
    assert bench.send_and_find_each(bench.packets(20, 0, protocol)) == [staying] * 20


@promise("membership.balance")
@both
@families
def test_every_member_of_a_group_gets_a_share(bench: Bench, protocol: Protocol, family: Family) -> None:
    """Without a program the hash reaches all members: none of 8 is left out by 400 four-tuples.

    Were each as likely as the other, the chance that one is left out is 8 × (7/8)^400, below 10^-22.
    """
    members = bench.group(8, protocol, family)
    packets = bench.packets(400 if protocol is Protocol.UDP else 200, 0, protocol, family)
    assert set(bench.send_and_find_each(packets)) == set(members)


@promise("membership.stable")
@both
def test_same_four_tuple_reaches_the_same_member(bench: Bench, protocol: Protocol) -> None:
    """The hash of a four-tuple does not change while the group does not."""
    bench.group(GROUP_SIZE, protocol)
    packet = bench.packet(0, protocol)
    receivers = set()
    for _ in range(50):
        receivers.add(bench.send_and_find(packet))
        for connection in bench.take_connections():
            connection.close()
        bench.wire.send([])
    assert len(receivers) == 1


@promise("membership.udp-connect-specific", "membership.udp-connect-wildcard")
@families
@pytest.mark.parametrize("specific", [False, True], ids=["wildcard", "specific"])
def test_connected_member_hears_its_peer_and_no_one_else(bench: Bench, family: Family, specific: bool) -> None:
    """connect() makes of a UDP member a socket for one peer; the rest of the group shares what others send."""
    address = family.server if specific else None
    members = [bench.open(Protocol.UDP, family, address) for _ in range(4)]
    connected = members[1]
    bench[connected].connect((family.peer, 555))
    assert bench.send_and_find_each([bench.packet(0, Protocol.UDP, family, source_port=555)]) == [connected]
    others = set(bench.send_and_find_each(bench.packets(100, 0, Protocol.UDP, family)))
    assert others == set(members) - {connected}


@promise("membership.namespace")
@both
def test_namespaces_do_not_share_groups(bench: Bench, protocol: Protocol) -> None:
    """A socket of another network namespace is no member, though all else is alike."""
    here = bench.open(protocol)
    with bench.wire.peer.inside():
        there = bench.open(protocol)
    assert bench.send_and_find_each(bench.packets(10, 0, protocol)) == [here] * 10
    bench[there].close()


@promise("membership.inet-only")
@pytest.mark.ledger("K21")
@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_PACKET, socket.AF_NETLINK])
@pytest.mark.usefixtures("wire")
def test_sockets_that_are_not_inet_refuse_the_option(family: int) -> None:
    """SO_REUSEPORT is for IPv4 and IPv6 sockets (CVE-2024-57903)."""
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as made:
        with refused(errno.EOPNOTSUPP):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
