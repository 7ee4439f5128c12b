# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What else decides which socket receives: SO_INCOMING_CPU, devices, SK_LOOKUP, traffic control, multicast, GSO."""

from __future__ import annotations

import os
import socket
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family, each_protocol, ledger, promise, recorded, requires
from harness.loader import instructions as bpf
from harness.loader.load import link, load_instructions
from harness.loader.maps import create_map
from harness.loader.program import attach_classic
from harness.model.abi import Result
from harness.model.layout import Family, InnerMap, Protocol
from harness.model.outcome import ReplyKind
from harness.model.uapi import BPF_SK_LOOKUP, UDP_SEGMENT
from harness.wire import frames
from harness.wire.namespace import Namespace
from harness.wire.veth import SERVER_LINK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import AttachReference, Bench, LoadProgram


NO_CPU = -1
LENGTH_IS_THE_PLACE = ((0x80, 0, 0, 0), (0x16, 0, 0, 0))  # BPF_LD | BPF_LEN, BPF_RET | BPF_A
NO_REUSEPORT = 2  # BPF_SK_LOOKUP_F_NO_REUSEPORT
GROUPS = {Family.IPV4: "224.0.0.251", Family.IPV6: "ff02::fb"}


@promise("neighbours.incoming-cpu")
@ledger("K19")
@each_protocol
@each_family
@pytest.mark.parametrize("place", range(3))
def test_member_of_this_cpu_is_preferred(bench: Bench, protocol: Protocol, family: Family, place: int) -> None:
    """Without a program the member whose SO_INCOMING_CPU is the packet's CPU gets all, in any place (b261eda84ec1)."""
    members = bench.group(3, protocol, family)
    here = bench.wire.settings.cpu
    for number in members:
        bench.set_option(number, socket.SO_INCOMING_CPU, here if number == members[place] else here + 1 + number)
    assert bench.send_and_find_each(bench.packets(20, 0, protocol, family)) == [members[place]] * 20


@promise("neighbours.incoming-cpu-cleared")
@ledger("K19")
@each_protocol
@each_family
def test_clearing_the_cpu_returns_to_the_hash(bench: Bench, protocol: Protocol, family: Family) -> None:
    """SO_INCOMING_CPU of -1 on all members is as if it had never been set."""
    members = bench.group(3, protocol, family)
    for cpu, receivers in ((bench.wire.settings.cpu, {members[1]}), (NO_CPU, set(members))):
        bench.set_option(members[1], socket.SO_INCOMING_CPU, cpu)
        assert set(bench.send_and_find_each(bench.packets(40, 0, protocol, family))) == receivers


@promise("neighbours.incoming-cpu-nobody")
@each_protocol
@each_family
def test_without_a_member_for_the_cpu_all_share(bench: Bench, protocol: Protocol, family: Family) -> None:
    """Where no member has SO_INCOMING_CPU set to the packet's CPU, they share as if none had set it at all."""
    members = bench.group(3, protocol, family)
    packets = bench.packets(60, 0, protocol, family)
    before = bench.send_and_find_each(packets)
    bench.reset_connections()
    for number in members:
        bench.set_option(number, socket.SO_INCOMING_CPU, bench.wire.settings.cpu + 1 + number)
    assert bench.send_and_find_each(packets) == before
    assert set(before) == set(members)


@promise("neighbours.incoming-cpu-without-option")
@each_protocol
@each_family
@pytest.mark.parametrize("place", range(2))
def test_socket_of_this_cpu_wins_where_the_option_was_cleared(
    bench: Bench, protocol: Protocol, family: Family, place: int
) -> None:
    """Of sockets that cleared SO_REUSEPORT since, the one with the packet's CPU wins, whichever is older.

    Without the option no group ends the search for the best fit (`compute_score`).
    """
    members = bench.group(2, protocol, family)
    bench.set_option(members[place], socket.SO_INCOMING_CPU, bench.wire.settings.cpu)
    for number in members:
        bench.set_option(number, socket.SO_REUSEPORT, 0)
    assert bench.send_and_find_each(bench.packets(5, 0, protocol, family)) == [members[place]] * 5


@promise("neighbours.incoming-cpu-program")
@each_protocol
@each_family
def test_program_goes_before_the_cpu(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol, family: Family
) -> None:
    """SO_INCOMING_CPU is for the fall-back to the hash alone: what the program selects is selected."""
    members = bench.group(3, protocol, family)
    bench.set_option(members[1], socket.SO_INCOMING_CPU, bench.wire.settings.cpu)
    attach_reference(members)
    packets = [bench.packet(index, protocol, family) for index in range(3) for _ in range(5)]
    assert bench.send_and_find_each(packets) == [number for number in members for _ in range(5)]


@promise("neighbours.device")
@each_protocol
@pytest.mark.parametrize(
    ("family", "bound_first"),
    [
        pytest.param(Family.IPV4, False, id="ipv4-bound-last"),
        pytest.param(Family.IPV4, True, id="ipv4-bound-first", marks=ledger("K24")),
        pytest.param(Family.IPV6, False, id="ipv6-bound-last", marks=ledger("K24")),
        pytest.param(Family.IPV6, True, id="ipv6-bound-first"),
    ],
)
def test_group_of_the_device_wins(bench: Bench, protocol: Protocol, family: Family, bound_first: bool) -> None:
    """A group that is bound to the packet's device goes before one that is not, whichever is older.

    No kernel keeps this in both orders: there the first group that fits at all gets the packet.
    """
    made = {}
    for device in (SERVER_LINK, None) if bound_first else (None, SERVER_LINK):
        made[device] = bench.group(2, protocol, family, device=device)
    assert set(bench.send_and_find_each(bench.packets(20, 0, protocol, family))) <= set(made[SERVER_LINK])


@promise("neighbours.device-other")
@each_protocol
@each_family
def test_group_of_another_device_hears_nothing(bench: Bench, protocol: Protocol, family: Family) -> None:
    """A group that is bound to another device gets nothing of the packet, which is answered as without a group."""
    bench.group(2, protocol, family, device="lo")
    refusal = ReplyKind.RESET if protocol is Protocol.TCP else ReplyKind.PORT_UNREACHABLE
    assert bench.send_and_capture(bench.packet(0, protocol, family)) == [refusal]
    assert bench.send_and_find_each(bench.packets(5, 0, protocol, family)) == [None] * 5


@promise("neighbours.device-without-option")
@each_protocol
@each_family
@pytest.mark.parametrize("bound_first", [False, True])
def test_socket_of_the_device_wins_where_the_option_was_cleared(
    bench: Bench, protocol: Protocol, family: Family, bound_first: bool
) -> None:
    """Of sockets that cleared SO_REUSEPORT since, the one on the packet's device wins, whichever is older.

    Without the option no group ends the search for the best fit (`compute_score`).
    """
    made = {}
    for device in (SERVER_LINK, None) if bound_first else (None, SERVER_LINK):
        made[device] = bench.open(protocol, family, device=device)
    for number in made.values():
        bench.set_option(number, socket.SO_REUSEPORT, 0)
    assert set(bench.send_and_find_each(bench.packets(5, 0, protocol, family))) == {made[SERVER_LINK]}


@promise("neighbours.ipv4-without-option")
@each_protocol
@pytest.mark.parametrize("ipv4_first", [False, True])
@pytest.mark.parametrize("preferring", [False, True], ids=["alike", "of-this-cpu"])
def test_ipv4_socket_wins_where_the_option_was_cleared(
    bench: Bench, protocol: Protocol, ipv4_first: bool, preferring: bool
) -> None:
    """Of sockets that cleared SO_REUSEPORT since, the IPv4 one gets IPv4 packets, and not a dual-stack one.

    SO_INCOMING_CPU makes the dual-stack one as good a fit, and then the IPv4 one stands before it (`compute_score`).
    """
    order = (Family.IPV4, Family.IPV6) if ipv4_first else (Family.IPV6, Family.IPV4)
    made = {family: bench.open(protocol, family) for family in order}
    if preferring:
        bench.set_option(made[Family.IPV6], socket.SO_INCOMING_CPU, bench.wire.settings.cpu)
    for number in made.values():
        bench.set_option(number, socket.SO_REUSEPORT, 0)
    assert set(bench.send_and_find_each(bench.packets(5, 0, protocol, Family.IPV4))) == {made[Family.IPV4]}


@contextmanager
def sk_lookup(chosen: socket.socket, *, flags: int = 0) -> Iterator[None]:
    """Let an SK_LOOKUP program of this namespace send everything to one socket."""
    with closing(create_map("sockmap", max_entries=1)) as sockmap, closing(Namespace.current()) as here:
        sockmap.put(0, chosen.fileno())
        program = load_instructions("sk_lookup", bpf.assign(sockmap.fd, flags=flags), attach_type=BPF_SK_LOOKUP)
        attached = link(program, here.fd, BPF_SK_LOOKUP)
        try:
            yield
        finally:
            os.close(attached)
            os.close(program)


@promise("neighbours.sk-lookup")
@each_protocol
@each_family
@requires("sk_lookup", "select_from_sockmap", "udp_in_sockmap")
def test_sk_lookup_finds_the_group_and_the_group_decides(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol, family: Family
) -> None:
    """A socket that SK_LOOKUP assigns stands for its group: the group's program makes the final choice."""
    members = bench.group(3, protocol, family)
    program = attach_reference(members, inner_map=InnerMap.SOCKMAP)
    elsewhere = bench.port + 1
    with sk_lookup(bench[members[0]]):
        packets = [bench.packet(index, protocol, family, destination_port=elsewhere) for index in range(3)]
        assert bench.send_and_find_each(packets) == members
        assert program.new_results() == {Result.PASS: 3}
    assert bench.send_and_find(bench.packet(1, protocol, family, destination_port=elsewhere)) is None


@promise("neighbours.sk-lookup-filter")
@each_protocol
@each_family
@requires("sk_lookup", "udp_in_sockmap")
def test_sk_lookup_finds_the_group_and_its_filter_decides(bench: Bench, protocol: Protocol, family: Family) -> None:
    """Where SK_LOOKUP finds the group, too, its filter is given the payload alone: here its length is the place."""
    members = bench.group(3, protocol, family)
    attach_classic(bench[members[0]], LENGTH_IS_THE_PLACE)
    places = (1, 2) * 10 if protocol is Protocol.UDP else (0,) * 20  # a SYN has no payload
    with sk_lookup(bench[members[0]]):
        packets = [
            bench.packet(protocol=protocol, family=family, destination_port=bench.port + 1, payload=bytes(place))
            for place in places
        ]
        assert bench.send_and_find_each(packets) == [members[place] for place in places]


@promise("neighbours.sk-lookup-no-reuseport")
@each_protocol
@each_family
@requires("sk_lookup", "select_from_sockmap", "udp_in_sockmap")
def test_sk_lookup_may_pass_the_group_by(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol, family: Family
) -> None:
    """With BPF_SK_LOOKUP_F_NO_REUSEPORT the socket that was assigned receives, and no program of its group runs."""
    members = bench.group(3, protocol, family)
    program = attach_reference(members, inner_map=InnerMap.SOCKMAP)
    with sk_lookup(bench[members[2]], flags=NO_REUSEPORT):
        assert bench.send_and_find(bench.packet(0, protocol, family)) == members[2]
    assert program.new_results() == {}


@promise("neighbours.sk-lookup-connected")
@each_family
@requires("sk_lookup", "select_from_sockmap", "udp_in_sockmap")
def test_sk_lookup_finds_a_group_with_a_connected_member(
    bench: Bench, attach_reference: AttachReference, family: Family
) -> None:
    """A redirect by SK_LOOKUP into a group with a connected member goes where the program says, never to that member.

    Not even from its peer: what is assigned stands for the group, and no four-tuple is compared.
    """
    members = bench.group(4, Protocol.UDP, family, family.server)
    program = attach_reference(members[:3], inner_map=InnerMap.SOCKMAP)
    bench[members[3]].connect((family.peer, 555))
    elsewhere = bench.port + 1
    with sk_lookup(bench[members[0]]):
        packets = [bench.packet(index, Protocol.UDP, family, destination_port=elsewhere) for index in range(3)]
        packets.append(bench.packet(1, Protocol.UDP, family, destination_port=elsewhere, source_port=555))
        assert bench.send_and_find_each(packets) == [*members[:3], members[1]]
        assert program.new_results() == {Result.PASS: 4}


@promise("neighbours.tc-assign")
@ledger("K25")
@each_protocol
@each_family
@requires("select_from_sockmap", "udp_in_sockmap", "sk_lookup")
def test_socket_that_traffic_control_assigns_stands_for_its_group(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, family: Family
) -> None:
    """A socket that traffic control assigns stands for its group: the group's program chooses (9c02bec95954).

    Of TCP the SYN alone is assigned: all that follows is found by its four-tuple, with the port that was sent to.
    """
    members = bench.group(3, protocol, family)
    elsewhere = bench.port + 1
    transport = 14 + (20 if family is Family.IPV4 else 40)
    program = load_for_test("reference", size=3)
    bench.attach(members[0], program)
    bench.fill(program.inner, members[1:], first=1)
    with closing(create_map("sockmap", max_entries=1)) as sockmap:
        bench.fill(sockmap, members[:1])
        # The destination port; of TCP the flags of a SYN too, behind the data offset of its six words.
        fields = [(transport + 2, elsewhere)] + ([(transport + 12, 0x6002)] if protocol is Protocol.TCP else [])
        chooser = load_instructions("sched_cls", bpf.assign_at_ingress((sockmap.fd, fields)))
        try:
            with bench.wire.at_ingress(chooser):
                packets = [bench.packet(n, protocol, family, destination_port=elsewhere) for n in (1, 2)]
                assert bench.send_and_find_each(packets) == members[1:]
                assert program.new_results() == {Result.PASS: 2}
        finally:
            os.close(chooser)


@promise("neighbours.multicast")
@each_family
def test_every_member_gets_a_copy_of_multicast(bench: Bench, attach_reference: AttachReference, family: Family) -> None:
    """A multicast datagram is delivered to each member that joined: nothing is selected, no program runs."""
    members = bench.group(3, Protocol.UDP, family)
    program = attach_reference(members)
    for number in members:
        bench.join_multicast(number, GROUPS[family], family)
    packet = bench.packet(0, Protocol.UDP, family)
    bench.wire.send(frames.to_group(frame, family, GROUPS[family]) for frame in frames.datagram(packet))
    assert bench.read() == {number: [packet.payload] for number in members}
    assert program.new_results() == {}


@promise("neighbours.broadcast")
def test_every_member_gets_a_copy_of_broadcast(bench: Bench, attach_reference: AttachReference) -> None:
    """A broadcast, which only IPv4 has, is delivered to each member: nothing is selected, no program runs."""
    members = bench.group(3)
    program = attach_reference(members)
    packet = bench.packet()
    bench.wire.send(frames.to_group(frame, Family.IPV4, "192.0.2.255") for frame in frames.datagram(packet))
    assert bench.read() == {number: [packet.payload] for number in members}
    assert program.new_results() == {}


@promise("neighbours.martians")
@each_protocol
@pytest.mark.parametrize(
    ("family", "source"),
    [
        (Family.IPV4, "127.0.0.1"),
        (Family.IPV4, "0.0.0.0"),
        (Family.IPV4, "255.255.255.255"),
        (Family.IPV4, "224.0.0.1"),
        (Family.IPV4, Family.IPV4.server),
        (Family.IPV6, "::1"),
        (Family.IPV6, "ff02::1"),
    ],
)
def test_packet_from_an_impossible_source_is_lost(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol, family: Family, source: str
) -> None:
    """A packet from an address that no host on the wire can have is lost before any lookup, without an answer."""
    program = attach_reference([bench.open(protocol, family)])
    packet = bench.packet(0, protocol, family, source_address=source)
    assert bench.send_and_capture(packet) == []
    assert bench.read() == {}
    assert program.new_results() == {}


@promise("neighbours.gso")
@requires("udp_segments_on_loopback")
@each_family
def test_segments_of_one_send_are_one_decision(bench: Bench, attach_reference: AttachReference, family: Family) -> None:
    """A UDP_SEGMENT send over loopback is one lookup: the program runs once, its member gets every datagram."""
    members = bench.group(2, Protocol.UDP, family)
    program = attach_reference(members)
    with closing(socket.socket(family.address_family, socket.SOCK_DGRAM)) as sender:
        sender.connect((family.server, bench.port))
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
        payload = bench.packet(1).payload + bytes(92)
        sender.send(payload * 5)
        bench[members[1]].setblocking(True)
        first = bench[members[1]].recv(2000)
        bench[members[1]].setblocking(False)
        assert first == payload
        assert bench.read() == {members[1]: [payload] * 4}
        assert program.new_results() == {Result.PASS: 1}
        assert recorded(program).length == 8 + 5 * len(payload)
