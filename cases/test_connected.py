# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Connected UDP sockets beside a group: they hear their peer, the program decides on everyone else.

Most of the bugs of this corner went unseen for years; harness/kernel/ledger.toml has them with the kernels they are in.
"""

from __future__ import annotations

import socket
import struct
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from harness.kernel.release import Release, running
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind
from harness.wire.veth import SERVER_LINK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.group.bench import Bench
    from harness.loader.program import Program
    from harness.model.packets import Packet

promise = pytest.mark.promise
ledger = pytest.mark.ledger
families = pytest.mark.parametrize("family", Family)
addresses = pytest.mark.parametrize("specific", [False, True], ids=["wildcard", "specific"])

PEER_PORT, OTHER_PEER_PORT = 555, 556
INITIAL_SIZE = 128
SO_INCOMING_CPU = 49


@pytest.fixture
def program(load_program: Callable[..., Program]) -> Iterator[Program]:
    """Return the reference program over 256 slots."""
    with load_program("reference", size=256) as load_for_test:
        yield load_for_test


def members_of(bench: Bench, family: Family, specific: bool, size: int = 4) -> list[int]:
    """Open a UDP group on the wildcard or on the server's address."""
    return [bench.open(Protocol.UDP, family, family.server if specific else None) for _ in range(size)]


def connect(bench: Bench, number: int, family: Family, port: int = PEER_PORT) -> None:
    """Connect a member to a port of the peer."""
    bench[number].connect((family.peer, port))


def from_peer(bench: Bench, family: Family, *, index: int = 0, port: int = PEER_PORT) -> Packet:
    """Return a datagram of the connected peer."""
    return bench.packet(index, Protocol.UDP, family, source_port=port)


@promise("connected.peer-only")
@ledger("K1")
@families
@addresses
def test_peer_reaches_its_socket_and_no_one_else_does(bench: Bench, family: Family, specific: bool) -> None:
    """Datagrams of the peer are the connected socket's alone; it gets nothing of 200 others (acdcecc61285)."""
    members = members_of(bench, family, specific)
    connect(bench, members[2], family)
    for _ in range(3):
        assert bench.send_and_find(from_peer(bench, family)) == members[2]
    others = bench.send_and_find_each(bench.packets(200, 0, Protocol.UDP, family))
    assert set(others) == {members[0], members[1], members[3]}


@promise("connected.program-decides-for-others")
@ledger("K3")
@families
@addresses
def test_program_decides_for_other_peers(bench: Bench, program: Program, family: Family, specific: bool) -> None:
    """A connected member is no reason to overrule the program: index i reaches member i (efc6b6f6c311)."""
    members = members_of(bench, family, specific, 6)
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    connect(bench, members[3], family)
    for index in (0, 1, 2, 4, 5):
        assert bench.send_and_find_each(bench.packets(5, index, Protocol.UDP, family)) == [members[index]] * 5
    assert bench.send_and_find(from_peer(bench, family, index=0)) == members[3]


@promise("connected.growth")
@ledger("K2")
@families
@addresses
def test_growth_does_not_forget_the_connected(bench: Bench, family: Family, specific: bool) -> None:
    """A group that grows over 128 members still sends a peer's datagrams to the socket that is connected to it."""
    members = members_of(bench, family, specific, INITIAL_SIZE)
    connect(bench, members[5], family)
    members += members_of(bench, family, specific, 3)
    for _ in range(3):
        assert bench.send_and_find(from_peer(bench, family)) == members[5]
    assert members[5] not in bench.send_and_find_each(bench.packets(200, 0, Protocol.UDP, family))


@promise("connected.order")
@ledger("K4")
@families
@addresses
def test_order_of_creation_does_not_matter(bench: Bench, program: Program, family: Family, specific: bool) -> None:
    """Whichever of connected, plain and CPU-bound sockets came first: the program's choice counts (f0ea27e7bfe1)."""
    kinds = ("connected", "plain", "cpu")
    for order in permutations(kinds):
        made = {}
        for kind in order:
            made[kind] = bench.open(Protocol.UDP, family, family.server if specific else None)
            if kind == "cpu":
                bench[made[kind]].setsockopt(socket.SOL_SOCKET, SO_INCOMING_CPU, bench.wire.settings.cpu)
        connect(bench, made["connected"], family)
        bench.attach(made["plain"], program)
        staying = [made["plain"], made["cpu"]]
        bench.fill(program.inner, staying)
        for index, number in enumerate(staying):
            found = bench.send_and_find_each(bench.packets(4, index, Protocol.UDP, family))
            assert found == [number] * 4, f"created in the order {', '.join(order)}"
        assert bench.send_and_find(from_peer(bench, family)) == made["connected"], (
            f"created in the order {', '.join(order)}"
        )
        bench.close()


@promise("connected.sticky")
@families
@addresses
def test_connected_member_that_left_leaves_no_trace(
    bench: Bench, program: Program, family: Family, specific: bool
) -> None:
    """`has_conns` stays set when the connected socket is gone; what the program selects is the same as before."""
    members = members_of(bench, family, specific, 4)
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    packets = bench.packets(8, 1, Protocol.UDP, family)
    before = bench.send_and_find_each(packets)
    extra = bench.open(Protocol.UDP, family, family.server if specific else None)
    connect(bench, extra, family)
    bench[extra].close()
    assert bench.send_and_find_each(packets) == before == [members[1]] * 8


@promise("connected.drop")
@ledger("K16")
@families
@addresses
def test_drop_is_final_with_connected_members(bench: Bench, program: Program, family: Family, specific: bool) -> None:
    """SK_DROP drops, although a lookup that found nothing is repeated in the other hash (a502ea6fa94b)."""
    members = members_of(bench, family, specific)
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    connect(bench, members[1], family)
    for _ in range(5):
        packet = bench.packet(200, Protocol.UDP, family)
        assert bench.send_and_capture(packet) == [ReplyKind.PORT_UNREACHABLE]
    assert bench.read() == {}


@promise("connected.reconnect")
@families
@addresses
def test_socket_that_connects_again_follows_its_new_peer(
    bench: Bench, program: Program, family: Family, specific: bool
) -> None:
    """connect, disconnect, connect elsewhere, three times: the former peer is the program's, the new one's its own."""
    members = members_of(bench, family, specific, 3)
    bench.attach(members[0], program)
    bench.fill(program.inner, members[:2])
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
@families
@addresses
def test_socket_may_change_its_peer_without_disconnecting(bench: Bench, family: Family, specific: bool) -> None:
    """A second connect() replaces the first: the new peer is heard, the former one is any other."""
    members = members_of(bench, family, specific, 3)
    connect(bench, members[0], family, PEER_PORT)
    connect(bench, members[0], family, OTHER_PEER_PORT)
    assert bench.send_and_find(from_peer(bench, family, port=OTHER_PEER_PORT)) == members[0]
    assert bench.send_and_find(from_peer(bench, family, port=PEER_PORT)) in members[1:]


@promise("connected.no-member")
@ledger("K27")
@families
@pytest.mark.parametrize("disconnecting", [False, True], ids=["directly", "disconnected-between"])
def test_socket_beside_the_group_follows_its_peer(bench: Bench, family: Family, disconnecting: bool) -> None:
    """From Linux 6.13 on a connected socket is found before any group, also once its peer is another (5fd0783b99d4).

    A socket that is bound to the device is no member, so that the group does not know of its connection. Here it stands
    behind the group in the list of their address, where a lookup ends at the group: new IPv4 sockets go to the head
    of that list, IPv6 ones that share their port to its end. Only the hash of the four-tuple (78c91ae2c6de) finds it.
    """
    members = members_of(bench, family, specific=True, size=2) if family is Family.IPV6 else []
    moving = bench.open(Protocol.UDP, family, family.server, device=SERVER_LINK)
    members = members or members_of(bench, family, specific=True, size=2)
    found = {moving} if running() >= Release(6, 13) else set(members)
    connect(bench, moving, family, PEER_PORT)
    assert bench.send_and_find(from_peer(bench, family, port=PEER_PORT)) in found
    if disconnecting:
        bench.disconnect(moving)
    connect(bench, moving, family, OTHER_PEER_PORT)
    assert bench.send_and_find(from_peer(bench, family, port=OTHER_PEER_PORT)) in found
    assert bench.send_and_find(from_peer(bench, family, port=PEER_PORT)) in members


@promise("connected.several-peers")
@families
def test_many_connected_sockets_each_hear_their_own(bench: Bench, program: Program, family: Family) -> None:
    """Twenty connected sockets beside a group of four: each peer finds its own, the program has the rest."""
    members = members_of(bench, family, specific=False)
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    clients = []
    for port in range(600, 620):
        clients.append(bench.open(Protocol.UDP, family))
        connect(bench, clients[-1], family, port)
    packets = [from_peer(bench, family, port=port) for port in range(600, 620)]
    assert bench.send_and_find_each(packets) == clients
    assert bench.send_and_find_each(bench.packets(10, 2, Protocol.UDP, family)) == [members[2]] * 10


@promise("connected.selecting-one")
@families
def test_connected_member_that_stays_in_its_slot(bench: Bench, program: Program, family: Family) -> None:
    """A slot never holds a connected socket against its peer: it left the map, or hears what the program gives it.

    Before Linux 6.13 connect() of a socket on an address left it in its slot (cases/test_sockarray.py), and a program
    may select it for anyone: the eBPF path of reuseport_select_sock() does not look at the socket's state.
    """
    members = members_of(bench, family, specific=True)
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    connect(bench, members[1], family)
    assert program.inner is not None
    kept = program.inner.lookup(struct.pack("=I", 1)) is not None
    assert bench.send_and_find(bench.packet(1, Protocol.UDP, family)) == (members[1] if kept else None)
