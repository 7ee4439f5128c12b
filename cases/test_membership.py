# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which sockets form a group, in what order they stand in it, and how they leave.

Two sockets are of one group if a program that is attached through one can select the other. Nothing else tells: a
program that selects a socket of another group only gets an error.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from harness.cases import (
    ANOTHER_USER,
    INITIAL_SIZE,
    each_address,
    each_family,
    each_protocol,
    ledger,
    place_by_hash,
    promise,
    recorded,
    requires,
)
from harness.kernel.refusal import refused
from harness.model.abi import Result
from harness.model.layout import GROUP_SIZE, Bind, Family, InnerMap, Protocol, Shape
from harness.model.outcome import Delivered, Dropped
from harness.wire.namespace import Namespace
from harness.wire.veth import SERVER_LINK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import AttachReference, Bench, DeliverTo, LoadProgram, MakeGroup

NAMESPACES = 80
FAR = {Family.IPV4: "198.51.100.{}", Family.IPV6: "2001:db8:ffff::{}"}
AreOneGroup = Callable[[int, int, Protocol, Family], bool]


@pytest.fixture
def are_one_group(bench: Bench, load_program: LoadProgram) -> AreOneGroup:
    """Return the function that tells whether two sockets are of one group: one's program can select the other."""

    def are_one_group(one: int, other: int, protocol: Protocol, family: Family) -> bool:
        with load_program("reference", size=1) as program:
            bench.attach(one, program)
            bench.fill(program.inner, [other])
            found = bench.send_and_find(bench.packet(0, protocol, family))
            assert program.new_results(), "the packet is not for the first socket's group: its program did not run"
            bench.detach(one)
            bench.clear_slot(program.inner, 0)  # closing the map lets go of it too, but in the kernel's own time
        assert found in {other, None}
        return found == other

    return are_one_group


def the_receiver(bench: Bench, protocol: Protocol, family: Family) -> int:
    """Send several packets; return the one socket that has them all."""
    (receiver,) = set(bench.send_and_find_each(bench.packets(8, 0, protocol, family)))
    assert receiver is not None, "no socket has the packets"
    return receiver


@promise("membership.group")
@each_protocol
@each_family
def test_sockets_alike_form_one_group(
    bench: Bench, are_one_group: AreOneGroup, protocol: Protocol, family: Family
) -> None:
    """Sockets with the same family, address, port, device, user and v6only form one group, wildcard or not."""
    for address in (None, family.server):
        one, other = bench.group(2, protocol, family, address)
        assert are_one_group(one, other, protocol, family)
        bench.close()


@promise("membership.user")
@each_protocol
@each_family
def test_another_user_is_kept_out(bench: Bench, protocol: Protocol, family: Family) -> None:
    """A port is shared only with the user who made the first socket, root being no exception: EADDRINUSE."""
    bench.open(protocol, family)
    with refused(errno.EADDRINUSE):
        bench.open(protocol, family, user=ANOTHER_USER)
    bench.close()
    bench.open(protocol, family, user=ANOTHER_USER)
    with refused(errno.EADDRINUSE):
        bench.open(protocol, family)
    bench.open(protocol, family, user=ANOTHER_USER)


@promise("membership.user-of-creation")
@each_protocol
def test_socket_belongs_to_who_made_it(bench: Bench, are_one_group: AreOneGroup, protocol: Protocol) -> None:
    """A socket belongs to the user who called socket(), also if another user binds it."""
    one, other = (bench.open(protocol, user=ANOTHER_USER, bind=False) for _ in range(2))
    for number in (one, other):
        bench.bind(number)  # by root
    assert are_one_group(one, other, protocol, Family.IPV4)


@promise("membership.user-given")
@each_family
def test_listener_that_was_given_away_is_in_no_group_with_the_next(bench: Bench, family: Family) -> None:
    """A listener that was given to another user, by fchown(), shares the port still, but no group with who comes next.

    bind() remembers the user of who came last; the group asks for each (`sk_reuseport_match`,
    `inet_reuseport_add_sock`).
    """
    given = bench.open(Protocol.TCP, family)
    os.fchown(bench[given].fileno(), ANOTHER_USER, -1)
    bench.open(Protocol.TCP, family)
    the_receiver(bench, Protocol.TCP, family)


@promise("membership.port")
@each_protocol
@each_family
def test_another_port_is_another_group(bench: Bench, protocol: Protocol, family: Family) -> None:
    """Sockets on two ports are of two groups, also where the kernel's table keeps them in one chain.

    Both tables place a port by its low bits: these ports differ in a higher one.
    """
    ports = [bench.port, bench.port ^ 0x4000]
    made = []
    for bench.port in ports:
        made.append(bench.open(protocol, family))
    for bench.port, number in zip(ports, made, strict=True):
        assert the_receiver(bench, protocol, family) == number


@promise("membership.option-on-both")
@each_protocol
@each_family
@pytest.mark.parametrize("first", [True, False])
def test_option_is_needed_on_every_socket(bench: Bench, protocol: Protocol, family: Family, first: bool) -> None:
    """SO_REUSEPORT has to be set before bind() on each socket, the first included: bind() refuses (socket(7))."""
    bench.open(protocol, family, reuseport=first)
    with refused(errno.EADDRINUSE):
        bench.open(protocol, family, reuseport=not first, listen=False)


@promise("membership.address")
@each_protocol
@each_family
def test_another_address_is_another_group(
    bench: Bench, are_one_group: AreOneGroup, protocol: Protocol, family: Family
) -> None:
    """The wildcard and an address share the port, not the group; a packet goes to the socket on its address."""
    wildcard = bench.open(protocol, family)
    specific = bench.open(protocol, family, family.server)
    assert the_receiver(bench, protocol, family) == specific
    assert not are_one_group(specific, wildcard, protocol, family)


@promise("membership.device")
@each_protocol
@each_family
def test_another_device_is_another_group(
    bench: Bench, are_one_group: AreOneGroup, protocol: Protocol, family: Family
) -> None:
    """Sockets that are bound to a device share the port with those that are not, but not the group.

    Which of the two a packet is for is another matter (cases/test_neighbours.py).
    """
    one, other = bench.group(2, protocol, family, device=SERVER_LINK)
    assert are_one_group(one, other, protocol, family)
    bench.close()
    pair = {bench.open(protocol, family), bench.open(protocol, family, device=SERVER_LINK)}
    one = the_receiver(bench, protocol, family)
    (other,) = pair - {one}
    assert not are_one_group(one, other, protocol, family)


@promise("membership.v6only")
@each_protocol
def test_v6only_is_part_of_the_group(bench: Bench, are_one_group: AreOneGroup, protocol: Protocol) -> None:
    """A dual-stack socket and one for IPv6 alone share port and address, but not the group."""
    for v6only in (False, True):
        one, other = (bench.open(protocol, Family.IPV6, v6only=v6only) for _ in range(2))
        assert are_one_group(one, other, protocol, Family.IPV6)
        bench.close()
    for first in (False, True):
        pair = {bench.open(protocol, Family.IPV6, v6only=v6only) for v6only in (first, not first)}
        one = the_receiver(bench, protocol, Family.IPV6)
        (other,) = pair - {one}
        assert not are_one_group(one, other, protocol, Family.IPV6)
        bench.close()


@promise("membership.dual-stack")
@each_protocol
def test_dual_stack_group_takes_ipv4(bench: Bench, are_one_group: AreOneGroup, protocol: Protocol) -> None:
    """A dual-stack group gets the IPv4 packets that no IPv4 socket wants; v6only sockets never see them."""
    one, other = (bench.open(protocol, Family.IPV6, v6only=False) for _ in range(2))
    assert are_one_group(one, other, protocol, Family.IPV4)
    assert are_one_group(one, other, protocol, Family.IPV6)
    bench.close()
    bench.open(protocol, Family.IPV6, v6only=True)
    assert bench.send_and_find(bench.packet(0, protocol, Family.IPV4)) is None


@promise("membership.ipv4-before-dual-stack")
@each_protocol
@pytest.mark.parametrize("ipv4_first", [True, False])
def test_ipv4_socket_goes_before_a_dual_stack_one(bench: Bench, protocol: Protocol, ipv4_first: bool) -> None:
    """Families never share a group: an IPv4 packet is for the IPv4 socket, whichever was there first."""
    order = (Family.IPV4, Family.IPV6) if ipv4_first else (Family.IPV6, Family.IPV4)
    made = {family: bench.open(protocol, family) for family in order}
    for family in Family:
        assert the_receiver(bench, protocol, family) == made[family]


@promise("membership.dual-stack-context")
@each_protocol
def test_dual_stack_program_sees_an_ipv4_packet(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol
) -> None:
    """`eth_protocol` is the packet's: ETH_P_IP for an IPv4 packet in a group of IPv6 sockets."""
    number = bench.open(protocol, Family.IPV6, v6only=False)
    program = attach_reference([number])
    for family in Family:
        assert bench.send_and_find(bench.packet(0, protocol, family)) == number
        seen = recorded(program)
        assert (seen.eth_protocol, seen.source, seen.bind_inany) == (family.eth_protocol, family.peer, True)


@promise("membership.tcp-joins-at-listen")
@each_family
def test_tcp_socket_joins_as_it_listens(bench: Bench, load_for_test: LoadProgram, family: Family) -> None:
    """A TCP socket joins the group as it listens: one that is only bound fits in no map and gets no connection."""
    first = bench.open(Protocol.TCP, family)
    second = bench.open(Protocol.TCP, family, listen=False)
    program = load_for_test("reference", size=2)
    bench.attach(first, program)
    with refused(errno.EINVAL):
        bench.fill(program.inner, [second])
    bench[second].listen(8)
    bench.fill(program.inner, [second])
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == second


@promise("membership.resurrected")
@each_family
def test_listener_that_listens_again_is_back(bench: Bench, attach_reference: AttachReference, family: Family) -> None:
    """shutdown() takes a listener out of the group; listen() brings it back, under the group's program."""
    first, second = bench.group(2, Protocol.TCP, family)
    program = attach_reference([first, second])
    bench[second].shutdown(socket.SHUT_RDWR)
    assert bench.send_and_find(bench.packet(1, Protocol.TCP, family)) is None
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == first
    bench[second].listen(8)
    bench.fill(program.inner, [second], first=1)
    assert bench.send_and_find(bench.packet(1, Protocol.TCP, family)) == second


@promise("membership.resurrected-alone")
def test_last_listener_that_listens_again_keeps_no_program(bench: Bench, attach_reference: AttachReference) -> None:
    """A group whose only listener was shut down is gone, and its program with it (tcp_migrate_req is off)."""
    number = bench.open(Protocol.TCP)
    attach_reference([number])
    bench[number].shutdown(socket.SHUT_RDWR)
    bench[number].listen(8)
    assert bench.send_and_find(bench.packet(7, Protocol.TCP)) == number
    with refused(errno.ENOENT):
        bench.detach(number)


@promise("membership.resurrected-alone-any")
@requires("tcp_migrate_req")
@each_family
@each_address
def test_last_listener_that_listens_again_is_where_it_was(
    bench: Bench, attach_reference: AttachReference, family: Family, specific: bool
) -> None:
    """`bind_inany` is right in the group that a listener, which was shut down for migration, makes as it listens."""
    bench.wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    number = bench.open(Protocol.TCP, family, family.server if specific else None)
    bench[number].shutdown(socket.SHUT_RDWR)
    bench[number].listen(8)
    program = attach_reference([number])
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == number
    assert recorded(program).bind_inany == (not specific)


@promise("membership.resurrected-later")
@requires("select_or_migrate")
@each_family
def test_listener_that_listens_again_joins_who_came_meanwhile(
    bench: Bench, load_for_test: LoadProgram, family: Family
) -> None:
    """A listener that was shut down for good with its whole group joins the group of who listens on its port by then.

    Of a group with a program for migration it was one of the closed ones; the program stays behind with that group.
    """
    first = bench.open(Protocol.TCP, family)
    bench.attach(first, load_for_test("migrate", size=1))
    bench[first].shutdown(socket.SHUT_RDWR)
    second = bench.open(Protocol.TCP, family)
    bench[first].listen(128)
    assert set(bench.send_and_find_each(bench.packets(40, 0, Protocol.TCP, family))) == {first, second}
    for number in (first, second):
        with refused(errno.ENOENT):
            bench.detach(number)


@promise("membership.resurrected-elsewhere")
@requires("select_or_migrate")
@each_family
def test_listener_that_listens_again_on_another_port_joins_the_group_there(
    bench: Bench, attach_reference: AttachReference, load_for_test: LoadProgram, family: Family
) -> None:
    """A listener that had a port of the kernel's choice and was shut down may join the group on another port."""
    moving = bench.open(Protocol.TCP, family, bind=False)
    bench[moving].listen(8)
    bench.attach(moving, load_for_test("migrate", size=1))
    bench[moving].shutdown(socket.SHUT_RDWR)
    members = bench.group(2, Protocol.TCP, family)
    program = attach_reference(members, slots=3)
    bench.bind(moving, family)
    bench.fill(program.inner, [moving], first=2)
    packets = [bench.packet(index, Protocol.TCP, family) for index in range(3)]
    assert bench.send_and_find_each(packets) == [*members, moving]


@promise("membership.option-after-bind")
@each_family
@each_address
def test_option_set_after_bind_lets_others_join(
    bench: Bench, are_one_group: AreOneGroup, attach_reference: AttachReference, family: Family, specific: bool
) -> None:
    """A UDP socket that sets SO_REUSEPORT after bind() has no group, until another one's bind() makes it one."""
    address = family.server if specific else None
    first = bench.open(Protocol.UDP, family, address, reuseport=False)
    bench.set_option(first, socket.SO_REUSEPORT, 1)
    second = bench.open(Protocol.UDP, family, address)
    assert are_one_group(second, first, Protocol.UDP, family)
    program = attach_reference([first, second])
    assert bench.send_and_find(bench.packet(1, Protocol.UDP, family)) == second
    assert recorded(program).bind_inany == (not specific)


@promise("membership.option-cleared")
@each_protocol
@each_family
def test_clearing_the_option_ends_the_sharing(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol, family: Family
) -> None:
    """Once all members cleared SO_REUSEPORT no program runs and no hash is asked: one of them receives everything."""
    members = bench.group(3, protocol, family)
    program = attach_reference(members)
    for number in members:
        bench.set_option(number, socket.SO_REUSEPORT, 0)
    assert len(set(bench.send_and_find_each(bench.packets(20, 0, protocol, family)))) == 1
    assert program.new_results() == {}


@promise("membership.option-cleared-before")
@each_family
def test_listener_joins_no_group_with_one_that_cleared_the_option(bench: Bench, family: Family) -> None:
    """A TCP socket that was bound before a listener cleared SO_REUSEPORT is in no group with it once it listens."""
    first, late = bench.open(Protocol.TCP, family), bench.open(Protocol.TCP, family, listen=False)
    bench.set_option(first, socket.SO_REUSEPORT, 0)
    bench[late].listen(64)
    assert len(set(bench.send_and_find_each(bench.packets(20, 0, Protocol.TCP, family)))) == 1


def shape_of(protocol: Protocol, family: Family) -> Shape:
    """Return the plainest shape: wildcard, sockarray."""
    return Shape(protocol=protocol, family=family, bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)


@promise("membership.hole")
@each_protocol
@each_family
def test_last_member_fills_the_hole(
    make_group: MakeGroup, delivery_to: DeliverTo, protocol: Protocol, family: Family
) -> None:
    """When a member closes, the last one takes its place in the order that the hash falls on (socket(7)).

    Slots of the inner map keep their members.
    """
    group = make_group(shape_of(protocol, family), size=7, slots=8)
    deliver = delivery_to(group)
    for leaving, order in ((0, [6, 1, 2, 3, 4, 5]), (3, [6, 1, 2, 5, 4]), (6, [4, 1, 2, 5]), (2, [4, 1, 5])):
        group.leave(leaving)
        for _ in range(8):
            selection = deliver(deliver.command(7, pass_on_failure=True))
            member = order[place_by_hash(selection.hash, len(order))]
            assert selection == Delivered(member, Result.PASS_ERR_SK_SELECT_REUSEPORT)
        assert deliver(deliver.command(leaving)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)
        for staying in order:
            assert deliver(deliver.command(staying)) == Delivered(staying)


@promise("membership.order")
@each_protocol
def test_order_is_that_of_joining(make_group: MakeGroup, delivery_to: DeliverTo, protocol: Protocol) -> None:
    """A member that joins stands last: UDP in the order of bind(), TCP in that of listen()."""
    group = make_group(shape_of(protocol, Family.IPV4), size=3, slots=10)
    deliver = delivery_to(group)
    order = [0, 1, 2]
    for joining in (7, 4, 8, 3, 6):
        group.join(joining)
        order.append(joining)
        for _ in range(6):
            selection = deliver(deliver.command(9, pass_on_failure=True))
            member = order[place_by_hash(selection.hash, len(order))]
            assert selection == Delivered(member, Result.PASS_ERR_SK_SELECT_REUSEPORT)


@promise("membership.tcp-order")
def test_order_is_that_of_listening(bench: Bench, load_for_test: LoadProgram) -> None:
    """TCP sockets stand in the order in which they listened, not in that in which they were bound."""
    first, *others = (bench.open(Protocol.TCP, listen=False) for _ in range(4))
    order = [others[1], first, others[2], others[0]]
    for number in order:
        bench[number].listen(128)
    program = load_for_test("reference", size=1)
    for _ in range(16):
        packet = bench.packet(0, Protocol.TCP)
        bench.attach(first, program)
        assert bench.send_and_find(packet) is None, "no slot is filled: the packet is dropped, but its hash recorded"
        bench.detach(first)
        _, hash_ = program.context()
        assert bench.send_and_find(packet) == order[place_by_hash(hash_, 4)]


@promise("membership.growth", "membership.growth-keeps-program")
@each_protocol
@each_family
def test_group_grows_over_its_first_room(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, family: Family
) -> None:
    """A group of more than 128 members moves to a larger array, and keeps its program, members and `bind_inany`."""
    program = load_for_test("reference", size=2 * INITIAL_SIZE + 2)
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
        assert recorded(program).bind_inany


@promise("membership.shrink")
@each_protocol
def test_group_that_grew_shrinks_to_one(bench: Bench, protocol: Protocol) -> None:
    """All members but one may close, in any order; the one that stays receives everything."""
    members = bench.group(INITIAL_SIZE + 2, protocol)
    staying = members[77]
    for number in (*reversed(members[78:]), *members[:77]):
        bench[number].close()
    assert bench.send_and_find_each(bench.packets(20, 0, protocol)) == [staying] * 20


@promise("membership.balance")
@each_protocol
@each_family
def test_every_member_of_a_group_gets_a_share(bench: Bench, protocol: Protocol, family: Family) -> None:
    """Without a program the hash reaches every member of a group.

    Were each of 8 as likely as the other, the chance that 200 four-tuples leave one out is 8 × (7/8)^200, below 10^-10.
    """
    members = bench.group(8, protocol, family)
    packets = bench.packets(400 if protocol is Protocol.UDP else 200, 0, protocol, family)
    assert set(bench.send_and_find_each(packets)) == set(members)


@promise("membership.balance-by-address")
@each_protocol
@each_family
def test_peers_with_one_port_are_told_apart_by_their_addresses(
    bench: Bench, protocol: Protocol, family: Family
) -> None:
    """Packets that differ in nothing but their source address reach each of two members.

    Were each as likely as the other, the chance that 40 of them reach only one is 2^-39.
    """
    members = bench.group(2, protocol, family)
    packets = [
        bench.packet(0, protocol, family, source_port=5353, source_address=FAR[family].format(host))
        for host in range(1, 41)
    ]
    assert {bench.send_and_find(packet) for packet in packets} == set(members)


@promise("membership.hash-of-the-four-tuple")
@each_protocol
@each_family
def test_hash_changes_with_the_peer_and_with_the_port(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, family: Family
) -> None:
    """Packets whose peers differ in address or port, or that are for different ports, differ in their hash.

    By chance two of the six hashes are equal in 15 of 2^32 runs.
    """
    hashes = set()
    for port in (bench.port, bench.port ^ 0x4000):
        bench.port = port
        number = bench.open(protocol, family)
        program = load_for_test("reference", size=1)
        bench.attach(number, program)
        bench.fill(program.inner, [number])
        for host, peer_port in ((1, 5353), (2, 5353), (1, 5354)):
            address = FAR[family].format(host)
            packet = bench.packet(0, protocol, family, source_address=address, source_port=peer_port)
            assert bench.send_and_find(packet) == number
            hashes.add(program.context()[1])
    assert len(hashes) == 6


@promise("membership.stable")
@each_protocol
def test_same_four_tuple_reaches_the_same_member(bench: Bench, protocol: Protocol) -> None:
    """Packets of one four-tuple reach one member for as long as the group does not change."""
    bench.group(GROUP_SIZE, protocol)
    packet = bench.packet(0, protocol)
    receivers = set()
    for _ in range(50):
        receivers.add(bench.send_and_find(packet))
        bench.reset_connections()
    assert len(receivers) == 1


@promise("membership.udp-connect-specific", "membership.udp-connect-wildcard")
@each_family
@each_address
def test_connected_member_hears_its_peer_and_no_one_else(bench: Bench, family: Family, specific: bool) -> None:
    """A UDP member that connects receives from its peer alone; the rest of the group shares what others send."""
    members = bench.group(4, Protocol.UDP, family, family.server if specific else None)
    connected = members[1]
    bench[connected].connect((family.peer, 555))
    assert bench.send_and_find(bench.packet(0, Protocol.UDP, family, source_port=555)) == connected
    others = set(bench.send_and_find_each(bench.packets(100, 0, Protocol.UDP, family)))
    assert others == set(members) - {connected}


@promise("membership.namespace")
@each_protocol
def test_namespaces_do_not_share_groups(bench: Bench, protocol: Protocol) -> None:
    """A socket of another network namespace is no member, though all else is alike."""
    here = bench.open(protocol)
    with bench.wire.peer.inside():
        there = bench.open(protocol)
    assert bench.send_and_find_each(bench.packets(10, 0, protocol)) == [here] * 10
    bench[there].close()


@pytest.fixture(scope="module")
def many_namespaces() -> Iterator[list[Namespace]]:
    """Return 80 network namespaces, made once: a busy kernel frees them more slowly than a case can make them."""
    with ExitStack() as undo:
        yield [undo.enter_context(closing(Namespace.create())) for _ in range(NAMESPACES)]


@promise("membership.namespace-chain")
@each_protocol
def test_namespaces_do_not_share_groups_where_their_table_does(
    bench: Bench, load_for_test: LoadProgram, many_namespaces: list[Namespace], protocol: Protocol
) -> None:
    """Sockets alike in many namespaces are in a group each: what is attached to one of them is with no other.

    A namespace's random number and the port choose the chain of the kernel's table. Of 80 namespaces two have the same
    chain: with 512 of them in all but one of 500 runs, in larger tables more rarely.
    """
    program = load_for_test("reference", size=1)
    for other in many_namespaces:
        with other.inside():
            number = bench.open(protocol)
        with refused(errno.ENOENT):
            bench.detach(number)
        bench.attach(number, program)


@promise("membership.autobound")
@each_family
def test_member_on_a_port_of_the_kernels_choice_leaves_as_it_disconnects(bench: Bench, family: Family) -> None:
    """A UDP member that has its port by bind() to port 0 loses it by connect() to AF_UNSPEC, and with it its place."""
    leaving, *staying = open_on_a_port_that_the_kernel_chose(bench, family)
    bench.disconnect(leaving)
    found = set(bench.send_and_find_each(bench.packets(60, 0, Protocol.UDP, family)))
    assert found == set(staying)


@promise("membership.autobound-again")
@each_family
def test_member_that_lost_its_port_may_bind_to_it_again(bench: Bench, family: Family) -> None:
    """A UDP socket that lost its port by connect() to AF_UNSPEC is as before bind(): it may join its group again."""
    leaving, *staying = open_on_a_port_that_the_kernel_chose(bench, family)
    bench.disconnect(leaving)
    bench.bind(leaving, family)
    found = set(bench.send_and_find_each(bench.packets(60, 0, Protocol.UDP, family)))
    assert found == {leaving, *staying}


def open_on_a_port_that_the_kernel_chose(bench: Bench, family: Family) -> list[int]:
    """Open a UDP socket that bind() to port 0 gave a port, and two more that join it there."""
    first = bench.open(Protocol.UDP, family, bind=False)
    bench[first].bind((family.any, 0))
    bench.port = bench[first].getsockname()[1]
    return [first, *bench.group(2, Protocol.UDP, family)]


@promise("membership.inet-only")
@ledger("K21")
@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_PACKET, socket.AF_NETLINK])
@pytest.mark.usefixtures("wire")
def test_sockets_that_are_not_inet_refuse_the_option(family: int) -> None:
    """Only IPv4 and IPv6 sockets take SO_REUSEPORT, others answer EOPNOTSUPP (CVE-2024-57903)."""
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as made:
        with refused(errno.EOPNOTSUPP):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
