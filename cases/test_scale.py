# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Many sockets on one port: both tables in which the kernel looks for UDP sockets, and thousands of listeners.

A UDP lookup, and a bind's search for conflicts, goes by the port alone as long as no more than ten sockets are in the
port's bucket, and by port and address beyond that (`__udp4_lib_lookup`, `udp_lib_get_port`).
"""

from __future__ import annotations

import errno
import resource
import socket
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from harness.cases import (
    ANOTHER_USER,
    each_address,
    each_family,
    each_protocol,
    place_by_hash,
    promise,
    recorded,
    requires,
)
from harness.group.bench import Bench
from harness.interface.keys import MEASURED
from harness.interface.measured import Cost, measured_to_json
from harness.kernel.refusal import refused
from harness.model.abi import Result
from harness.model.layout import Bind, Family, InnerMap, Protocol, Shape
from harness.wire.namespace import Namespace, write_sysctl
from harness.wire.veth import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import AttachReference, DeliverTo, LoadProgram, MakeGroup, RecordProperty


THOUSANDS = 2050
"""Members: the array of a group has doubled four times by then, from 128."""

SIZES = (2, 8, 32, 128, 512)
PACKETS, ROUNDS = 300, 5
"""For each of SIZES; the quickest of the rounds is what a packet costs, the others were disturbed."""

FIRST_STRANGER, FEWEST_CHAINS, MOST_CHAINS = 10_000, 256, 4096
"""Ports of sockets of another address; the sizes of tables looked at (UDP_HTABLE_SIZE_MIN; with 8 GiB of memory)."""

LOOPBACK = {Family.IPV4: "127.0.0.1", Family.IPV6: "::1"}

CHILD_ENTRIES = 128
"""The smallest table that a namespace may have (include/net/udp.h, UDP_HTABLE_SIZE_MIN_PERNET)."""


ADDRESSES, UNHEARD = 4000, 20
"""Addresses with a listener, in each chain of a table of 512 (with 1 GiB of memory); and addresses that have none."""

AT_ONCE = 250  # of the addresses have a UDP socket

ADDRESSES_PORT = 7100
SECONDS_TO_BE_ACCEPTED = 10
RT_TABLE_LOCAL, RTN_LOCAL = 255, 2  # include/uapi/linux/rtnetlink.h


MOST_FILES = 10_000


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process have thousands of files open: a guest's own hard limit is 4,096 (INR_OPEN_MAX)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, MOST_FILES), max(hard, MOST_FILES)))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _address(family: Family, number: int) -> str:
    """Return one of very many addresses of this machine."""
    return f"127.1.{number >> 8}.{number & 0xFF}" if family is Family.IPV4 else f"fd00::{number:x}"


@contextmanager
def _in_a_place_of_many_addresses(family: Family) -> Iterator[None]:
    """Be in a namespace that has all addresses of `_address`, until the context ends."""
    with closing(Namespace.create()) as place, place.inside(), IPRoute() as links:
        links.link("set", index=1, state="up")
        if family is Family.IPV6:
            write_sysctl("net/ipv6/ip_nonlocal_bind", 1)
            links.route("add", dst="fd00::/64", oif=1, table=RT_TABLE_LOCAL, type=RTN_LOCAL, family=socket.AF_INET6)
        yield


def _listen(family: Family, address: str) -> socket.socket:
    made = socket.socket(family.address_family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((address, ADDRESSES_PORT))
    made.listen(UNHEARD)
    return made


@promise("scale.addresses")
@each_family
def test_listeners_on_many_addresses_are_as_many_groups(wire: object, many_files: None, family: Family) -> None:
    """A listener on the wildcard gets what is for no other's address, however many share a chain of the table with it.

    The table places a listener by its address and port, and has a chain for 2 MiB of memory: thousands fill them all.
    """
    with _in_a_place_of_many_addresses(family), ExitStack() as undo:
        wildcard = undo.enter_context(closing(_listen(family, family.any)))
        wildcard.settimeout(SECONDS_TO_BE_ACCEPTED)
        for number in range(ADDRESSES):
            undo.enter_context(closing(_listen(family, _address(family, number))))
        for number in range(ADDRESSES, ADDRESSES + UNHEARD):
            client = undo.enter_context(closing(socket.socket(family.address_family, socket.SOCK_STREAM)))
            client.connect((_address(family, number), ADDRESSES_PORT))
            undo.enter_context(wildcard.accept()[0])


@promise("scale.address-chain")
@each_family
def test_address_goes_before_the_wildcard_in_one_chain(bench: Bench, family: Family) -> None:
    """A datagram to the address of a socket is not for the wildcard, nor for another address, whatever their chains.

    A socket is behind the wildcard's in their chain: new IPv4 sockets go to its head, IPv6 ones to its end. Of so many
    addresses some have the chain of the wildcard, where the table has no more than 1024 (`compute_score`).
    """
    with (
        _in_a_place_of_many_addresses(family),
        closing(socket.socket(family.address_family, socket.SOCK_DGRAM)) as sender,
    ):
        for start in range(1, ADDRESSES, AT_ONCE):
            addresses = [_address(family, number) for number in range(start, start + AT_ONCE)]
            order = [*addresses, family.any] if family is Family.IPV4 else [family.any, *addresses]
            made = {address: bench.open(Protocol.UDP, family, address) for address in order}
            for address in addresses:
                sender.sendto(address.encode(), (address, bench.port))
            bench.wire.read_replies()  # what was sent before has come: one CPU has one queue for all links
            assert bench.read() == {made[address]: [address.encode()] for address in addresses}
            bench.close()


@promise("scale.tables")
@each_protocol
@each_family
@each_address
@pytest.mark.parametrize("size", [10, 20])
def test_every_member_of_a_group_in_either_table(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol, family: Family, specific: bool, size: int
) -> None:
    """Groups of 10 and of 20 select alike: UDP finds the first by port, the second by port and address."""
    members = bench.group(size, protocol, family, family.server if specific else None)
    program = attach_reference(members, slots=size + 1)
    packets = [bench.packet(index, protocol, family) for index in range(size)]
    assert bench.send_and_find_each(packets) == members
    assert program.new_results() == {Result.PASS: size}
    assert bench.send_and_find(bench.packet(size, protocol, family)) is None


def open_wildcards(bench: Bench, protocol: Protocol) -> None:
    """Open a group of eleven on the wildcard of each family."""
    for family in Family:
        bench.group(11, protocol, family)


@promise("scale.specific-over-any")
@each_protocol
@each_family
@pytest.mark.parametrize("wildcard_first", [True, False])
def test_address_goes_before_the_wildcard_among_many(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol, family: Family, wildcard_first: bool
) -> None:
    """Of many groups on a port the one on the packet's address is asked, before the wildcard's, of either family.

    `compute_score` puts the address before the wildcard; an IPv4 packet goes to IPv4 sockets first.
    """
    if wildcard_first:
        open_wildcards(bench, protocol)
    for host in range(1, 12):
        bench.open(protocol, Family.IPV4, f"127.0.0.{host}")
    members = bench.group(11, protocol, family, family.server)
    if not wildcard_first:
        open_wildcards(bench, protocol)
    program = attach_reference(members)
    packets = [bench.packet(index, protocol, family) for index in range(11)]
    assert bench.send_and_find_each(packets) == members
    assert program.new_results() == {Result.PASS: 11}


@promise("scale.crowded-chain")
@each_family
def test_conflict_is_found_where_another_ports_sockets_are_more(bench: Bench, many_files: None, family: Family) -> None:
    """A bind() is refused or joins alike, whichever of the tables is searched: the one whose chain is shorter.

    Eleven members are in one chain by port, and in another by port and address. Sockets of another address, on as many
    ports as the tables have chains, fall into each of the latter once, and the port's chain becomes the shorter one
    (`udp_lib_get_port`). Where the tables are larger than that, the case shows less.
    """
    members = bench.group(11, Protocol.UDP, family, family.server)
    for crowded in (False, True):
        if crowded:
            for port in range(FIRST_STRANGER, FIRST_STRANGER + MOST_CHAINS):
                if (port - bench.port) % FEWEST_CHAINS:
                    made = socket.socket(family.address_family, socket.SOCK_DGRAM)
                    bench.adopt(made)
                    made.setblocking(False)
                    made.bind((LOOPBACK[family], port))
        with refused(errno.EADDRINUSE):
            bench.open(Protocol.UDP, family, family.server, reuseport=False)
        with refused(errno.EADDRINUSE):
            bench.open(Protocol.UDP, family, family.server, user=ANOTHER_USER)
        members.append(bench.open(Protocol.UDP, family, family.server))
        found = bench.send_and_find_each(bench.packets(100, 0, Protocol.UDP, family))
        assert set(found) <= set(members)
        assert len(set(found)) > len(members) / 2


@promise("scale.cost")
@pytest.mark.alone
@each_family
def test_program_runs_once_however_many_members(
    make_group: MakeGroup, delivery_to: DeliverTo, record_property: RecordProperty, family: Family
) -> None:
    """A packet is one run of the program, in a group of 512 members as in one of 2; what it costs is measured.

    Until 4.5 the lookup went through all sockets of the port for each packet.
    """
    microseconds = []
    for size in SIZES:
        shape = Shape(protocol=Protocol.UDP, family=family, bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)
        group = make_group(shape, program="by_source_port", size=size)
        deliver = delivery_to(group)
        packets = deliver.packet(source_port=20_000).from_each_port(range(20_000, 20_000 + PACKETS))
        assert deliver.send_many(packets) == [packet.source_port % size for packet in packets]
        microseconds.append(min(deliver.time_of(packets) for _ in range(ROUNDS)) / PACKETS * 1e6)
        assert group.program.new_results() == {Result.PASS: ROUNDS * PACKETS}
    what = f"UDP over {'IPv4' if family is Family.IPV4 else 'IPv6'}, by_source_port"
    record_property(MEASURED, measured_to_json(Cost(what=what, members=list(SIZES), microseconds=microseconds)))


@promise("scale.thousands")
def test_thousands_of_listeners(bench: Bench, load_for_test: LoadProgram, many_files: None) -> None:
    """A group may have thousands of listeners, each of them selectable; the hash falls on all of them.

    The array grows by doubling (`reuseport_grow`).
    """
    family = Family.IPV6
    first = bench.open(Protocol.TCP, family)
    program = load_for_test("reference", size=THOUSANDS + 1)
    bench.attach(first, program)
    members = [first, *bench.group(THOUSANDS - 1, Protocol.TCP, family)]
    bench.fill(program.inner, members)
    chosen = [0, 1, 127, 128, 1023, 1024, 2048, THOUSANDS - 1]
    for index in chosen:
        assert bench.send_and_find(bench.packet(index, Protocol.TCP, family)) == members[index]
    for _ in range(4):
        packet = bench.packet(THOUSANDS, Protocol.TCP, family)  # an empty slot: dropped, and the hash recorded
        bench.attach(first, program)
        assert bench.send_and_find(packet) is None
        hash_ = program.context()[1]
        assert recorded(program).destination_port == bench.port
        bench.detach(first)
        assert bench.send_and_find(packet) == members[place_by_hash(hash_, THOUSANDS)]


@promise("scale.namespace-tables")
@requires("udp_child_hash_entries")
@each_family
@each_address
def test_namespace_with_its_own_tables(
    wire: Wire, bench: Bench, load_for_test: LoadProgram, family: Family, specific: bool
) -> None:
    """A namespace may have UDP tables of its own; its groups select alike, and no other namespace's are found.

    net.ipv4.udp_child_hash_entries decides it for the namespaces made next (`udp_set_table`). Ports a multiple of the
    table's size apart share a bucket.
    """
    stranger = bench.open(Protocol.UDP, family)
    wire.settings.set("net/ipv4/udp_child_hash_entries", CHILD_ENTRIES)
    with closing(Wire()) as inner, closing(Bench(inner)) as child:
        assert int(Path("/proc/sys/net/ipv4/udp_hash_entries").read_text()) == CHILD_ENTRIES
        program = load_for_test("reference", size=20)
        members = child.group(20, Protocol.UDP, family, family.server if specific else None)
        child.attach(members[0], program)
        child.fill(program.inner, members)
        child.port += CHILD_ENTRIES
        neighbours = child.group(3, Protocol.UDP, family)
        assert set(child.send_and_find_each(child.packets(30, 0, Protocol.UDP, family))) == set(neighbours)
        assert program.new_results() == {}
        child.port -= CHILD_ENTRIES
        packets = [child.packet(index, Protocol.UDP, family) for index in range(20)]
        assert child.send_and_find_each(packets) == members
        assert program.new_results() == {Result.PASS: 20}
    assert bench.read() == {}
    assert bench.send_and_find(bench.packet(0, Protocol.UDP, family)) == stranger
