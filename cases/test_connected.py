# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Connected UDP sockets beside a group: each receives from its peer, the program decides on everyone else's datagrams.

Most of the bugs here went unseen for years; harness/kernel/ledger.toml has them with the kernels they are in.
"""

from __future__ import annotations

import socket
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from harness.cases import FOUR_TUPLE_HASH, INITIAL_SIZE, each_address, each_family, ledger, promise
from harness.kernel.release import running
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind
from harness.wire.veth import SERVER_LINK

if TYPE_CHECKING:
    from harness.cases import AttachReference, Bench, Packet

PEER_PORT, OTHER_PEER_PORT = 555, 556
ANOTHER_HOST = {Family.IPV4: "198.18.0.1", Family.IPV6: "2001:db8:ffff::1"}


def open_members(bench: Bench, family: Family, specific: bool, size: int = 4) -> list[int]:
    """Open a UDP group on the wildcard or on the server's address."""
    return bench.group(size, Protocol.UDP, family, family.server if specific else None)


def connect(bench: Bench, number: int, family: Family, port: int = PEER_PORT) -> None:
    """Connect a member to a port of the peer."""
    bench[number].connect((family.peer, port))


def from_peer(bench: Bench, family: Family, *, index: int = 0, port: int = PEER_PORT) -> Packet:
    """Return a datagram of the connected peer."""
    return bench.packet(index, Protocol.UDP, family, source_port=port)


@promise("connected.peer-only")
@ledger("K1")
@each_family
@each_address
def test_peer_reaches_its_socket_and_no_one_else_does(bench: Bench, family: Family, specific: bool) -> None:
    """A connected UDP socket receives all of its peer's datagrams, and nothing of 200 others (acdcecc61285)."""
    members = open_members(bench, family, specific)
    connect(bench, members[2], family)
    for _ in range(3):
        assert bench.send_and_find(from_peer(bench, family)) == members[2]
    others = bench.send_and_find_each(bench.packets(200, 0, Protocol.UDP, family))
    assert set(others) == {members[0], members[1], members[3]}


@promise("connected.peer-address")
@each_family
@each_address
def test_port_of_the_peer_on_another_host_is_not_the_peer(bench: Bench, family: Family, specific: bool) -> None:
    """A datagram from the peer's port on another host is for the others of the group, not for the connected socket."""
    members = open_members(bench, family, specific)
    connect(bench, members[2], family)
    packet = bench.packet(0, Protocol.UDP, family, source_port=PEER_PORT, source_address=ANOTHER_HOST[family])
    assert bench.send_and_find(packet) in {members[0], members[1], members[3]}


@promise("connected.before-device")
@each_family
@pytest.mark.parametrize("connected_first", [True, False])
def test_connected_socket_goes_before_one_of_the_device(bench: Bench, family: Family, connected_first: bool) -> None:
    """A connected socket gets its peer's datagrams before one that is bound to the device, whichever is older.

    With IPv4 that counts for more than device and CPU together (`compute_score`). No group ends the search: the
    sockets have cleared SO_REUSEPORT since.
    """
    made = {}
    for device in (None, SERVER_LINK) if connected_first else (SERVER_LINK, None):
        made[device] = bench.open(Protocol.UDP, family, family.server, device=device)
    connect(bench, made[None], family)
    if family is Family.IPV4:
        bench.set_option(made[SERVER_LINK], socket.SO_INCOMING_CPU, bench.wire.settings.cpu)
    for number in made.values():
        bench.set_option(number, socket.SO_REUSEPORT, 0)
    assert bench.send_and_find(from_peer(bench, family)) == made[None]


@promise("connected.disconnected")
@each_family
def test_socket_that_disconnects_is_on_the_wildcard_again(bench: Bench, family: Family) -> None:
    """A socket on the wildcard that connects and disconnects receives from everyone again.

    connect() gave it an address, and filed it by that (`udp_lib_rehash`).
    """
    number = bench.open(Protocol.UDP, family)
    connect(bench, number, family)
    bench.disconnect(number)
    assert bench.send_and_find(bench.packet(0, Protocol.UDP, family)) == number


@promise("connected.selected-score")
@ledger("K4")
@each_family
def test_choice_of_the_program_counts_for_what_it_is(
    bench: Bench, attach_reference: AttachReference, family: Family
) -> None:
    """What the program selects stands against a socket behind it that is as good a fit, beside connected members too.

    The search meets a plain member first, whose program selects the last one, of this CPU. Between them is a socket of
    this CPU that has cleared SO_REUSEPORT since: it is a better fit than the first, not than the last (f0ea27e7bfe1).
    """
    first, between, last = open_members(bench, family, specific=True, size=3)
    if family is Family.IPV4:  # new IPv4 sockets go to the head of the list, IPv6 ones to its end
        first, last = last, first
    (connected,) = open_members(bench, family, specific=True, size=1)
    connect(bench, connected, family)
    attach_reference([last])
    for number in (between, last):
        bench.set_option(number, socket.SO_INCOMING_CPU, bench.wire.settings.cpu)
    bench.set_option(between, socket.SO_REUSEPORT, 0)
    assert bench.send_and_find(bench.packet(0, Protocol.UDP, family)) == last


@promise("connected.program-decides-for-others")
@ledger("K3")
@each_family
@each_address
def test_program_decides_for_other_peers(
    bench: Bench, attach_reference: AttachReference, family: Family, specific: bool
) -> None:
    """The program decides on all but the peer's datagrams, connected member or not (efc6b6f6c311)."""
    members = open_members(bench, family, specific, 6)
    attach_reference(members)
    connect(bench, members[3], family)
    asked = [0, 1, 2, 4, 5] * 5
    packets = [bench.packet(index, Protocol.UDP, family) for index in asked]
    assert bench.send_and_find_each(packets) == [members[index] for index in asked]
    assert bench.send_and_find(from_peer(bench, family, index=0)) == members[3]


@promise("connected.growth")
@ledger("K2")
@each_family
@each_address
def test_growth_does_not_forget_the_connected(bench: Bench, family: Family, specific: bool) -> None:
    """A group that grows over 128 members still sends a peer's datagrams to the socket that is connected to it."""
    members = open_members(bench, family, specific, INITIAL_SIZE)
    connect(bench, members[5], family)
    open_members(bench, family, specific, 3)
    for _ in range(3):
        assert bench.send_and_find(from_peer(bench, family)) == members[5]
    assert members[5] not in bench.send_and_find_each(bench.packets(200, 0, Protocol.UDP, family))


@promise("connected.order")
@ledger("K4")
@each_family
@each_address
def test_order_of_creation_does_not_matter(
    bench: Bench, attach_reference: AttachReference, family: Family, specific: bool
) -> None:
    """The program's choice counts in whatever order connected, plain and CPU-bound sockets were made (f0ea27e7bfe1)."""
    for order in permutations(("connected", "plain", "cpu")):
        made = {}
        for kind in order:
            (made[kind],) = open_members(bench, family, specific, 1)
            if kind == "cpu":
                bench.set_option(made[kind], socket.SO_INCOMING_CPU, bench.wire.settings.cpu)
        connect(bench, made["connected"], family)
        attach_reference([made["plain"], made["cpu"]])
        packets = [
            *(bench.packet(index, Protocol.UDP, family) for index in (0, 0, 0, 0, 1, 1, 1, 1)),
            from_peer(bench, family),
        ]
        expected = [*[made["plain"]] * 4, *[made["cpu"]] * 4, made["connected"]]
        assert bench.send_and_find_each(packets) == expected, f"created in the order {', '.join(order)}"
        bench.close()


@promise("connected.sticky")
@each_family
@each_address
def test_connected_member_that_left_leaves_no_trace(
    bench: Bench, attach_reference: AttachReference, family: Family, specific: bool
) -> None:
    """A connected member that closes changes nothing that the program selects, though `has_conns` stays set."""
    members = open_members(bench, family, specific, 4)
    attach_reference(members)
    packets = bench.packets(8, 1, Protocol.UDP, family)
    before = bench.send_and_find_each(packets)
    (extra,) = open_members(bench, family, specific, 1)
    connect(bench, extra, family)
    bench[extra].close()
    assert bench.send_and_find_each(packets) == before == [members[1]] * 8


@promise("connected.drop")
@ledger("K16")
@each_family
@each_address
def test_drop_is_final_with_connected_members(
    bench: Bench, attach_reference: AttachReference, family: Family, specific: bool
) -> None:
    """SK_DROP drops beside connected members too: no lookup in another hash finds one after all (a502ea6fa94b)."""
    members = open_members(bench, family, specific)
    attach_reference(members)
    connect(bench, members[1], family)
    packets = bench.packets(5, len(members), Protocol.UDP, family)
    assert bench.send_and_watch_each(packets) == [(None, [ReplyKind.PORT_UNREACHABLE])] * 5


@promise("connected.reconnect")
@each_family
@each_address
def test_socket_that_connects_again_follows_its_new_peer(
    bench: Bench, attach_reference: AttachReference, family: Family, specific: bool
) -> None:
    """A socket that disconnects and connects elsewhere receives from its new peer; the program has the former one's."""
    members = open_members(bench, family, specific, 3)
    attach_reference(members[:2])
    moving = members[2]
    former, present = PEER_PORT, OTHER_PEER_PORT
    for _ in range(3):
        connect(bench, moving, family, former)
        assert bench.send_and_find(from_peer(bench, family, port=former)) == moving
        bench.disconnect(moving)
        connect(bench, moving, family, present)
        assert bench.send_and_find(from_peer(bench, family, index=1, port=former)) == members[1]
        assert bench.send_and_find(from_peer(bench, family, port=present)) == moving
        former, present = present, former


@promise("connected.reconnect-directly")
@each_family
@each_address
def test_socket_may_change_its_peer_without_disconnecting(bench: Bench, family: Family, specific: bool) -> None:
    """A second connect() replaces the first: the new peer's datagrams arrive, the former one's go to the group."""
    members = open_members(bench, family, specific, 3)
    connect(bench, members[0], family, PEER_PORT)
    connect(bench, members[0], family, OTHER_PEER_PORT)
    assert bench.send_and_find(from_peer(bench, family, port=OTHER_PEER_PORT)) == members[0]
    assert bench.send_and_find(from_peer(bench, family, port=PEER_PORT)) in members[1:]


@promise("connected.no-member")
@ledger("K27")
@each_family
@pytest.mark.parametrize("disconnecting", [False, True], ids=["directly", "disconnected-between"])
def test_socket_beside_the_group_follows_its_peer(bench: Bench, family: Family, disconnecting: bool) -> None:
    """From Linux 6.13 on a connected socket is found before any group, also once its peer is another (5fd0783b99d4).

    A socket that is bound to the device is no member, so that the group does not know of its connection. Here it stands
    behind the group in the list of their address, where a lookup ends at the group: new IPv4 sockets go to the head
    of that list, IPv6 ones that share their port to its end. Only the hash of the four-tuple (78c91ae2c6de) finds it.
    """
    members = open_members(bench, family, specific=True, size=2) if family is Family.IPV6 else []
    moving = bench.open(Protocol.UDP, family, family.server, device=SERVER_LINK)
    members = members or open_members(bench, family, specific=True, size=2)
    found = {moving} if running() >= FOUR_TUPLE_HASH else set(members)
    connect(bench, moving, family, PEER_PORT)
    assert bench.send_and_find(from_peer(bench, family, port=PEER_PORT)) in found
    if disconnecting:
        bench.disconnect(moving)
    connect(bench, moving, family, OTHER_PEER_PORT)
    assert bench.send_and_find(from_peer(bench, family, port=OTHER_PEER_PORT)) in found
    assert bench.send_and_find(from_peer(bench, family, port=PEER_PORT)) in members


@promise("connected.several-peers")
@each_family
def test_many_connected_sockets_each_hear_their_own(
    bench: Bench, attach_reference: AttachReference, family: Family
) -> None:
    """Each of twenty connected sockets beside a group receives its peer's datagrams; the program has the rest."""
    members = open_members(bench, family, specific=False)
    attach_reference(members)
    ports = range(600, 620)
    clients = open_members(bench, family, specific=False, size=len(ports))
    for number, port in zip(clients, ports, strict=True):
        connect(bench, number, family, port)
    assert bench.send_and_find_each([from_peer(bench, family, port=port) for port in ports]) == clients
    assert bench.send_and_find_each(bench.packets(10, 2, Protocol.UDP, family)) == [members[2]] * 10


@promise("connected.selecting-one")
@each_family
def test_connected_member_that_stays_in_its_slot(
    bench: Bench, attach_reference: AttachReference, family: Family
) -> None:
    """A connected socket that is still in its slot can be selected for anyone; one that left its slot cannot.

    Before Linux 6.13 connect() of a socket on an address left it in its slot (cases/test_sockarray.py), and a program
    may select it for anyone: the eBPF path of reuseport_select_sock() does not look at the socket's state.
    """
    members = open_members(bench, family, specific=True)
    program = attach_reference(members)
    connect(bench, members[1], family)
    assert program.inner is not None
    kept = program.inner.at(1) is not None
    assert bench.send_and_find(bench.packet(1, Protocol.UDP, family)) == (members[1] if kept else None)
