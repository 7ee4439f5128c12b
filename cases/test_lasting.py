# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a group keeps, and what it gives back, as its members come, stop, and go."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cases import (
    ANOTHER_USER,
    INITIAL_SIZE,
    each_address,
    each_family,
    each_protocol,
    ledger,
    promise,
    requires,
    returning,
)
from harness.kernel.refusal import refused
from harness.loader import instructions as bpf
from harness.loader.bindings import BpfError, call
from harness.loader.load import load_instructions
from harness.loader.program import attach_classic
from harness.model.layout import Family, Protocol
from harness.wire import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.cases import AttachReference, Bench

NO_CPU = -1
MANY = 12
"""Sockets on one port above which the kernel looks for them by address and port, and no longer by port alone."""
SECONDS_TO_FREE = 10.0
"""How long a program may stay that nobody holds: freeing waits for RCU. Never waited out by one that goes."""

TCP_REPAIR = 19  # include/uapi/linux/tcp.h

needs_sysctl = requires("tcp_migrate_req")


@promise("neighbours.incoming-cpu-of-others")
@ledger("K19")
@each_protocol
@each_family
def test_cpu_of_a_member_outlasts_those_of_others(bench: Bench, protocol: Protocol, family: Family) -> None:
    """A member keeps its SO_INCOMING_CPU when one without closes, and when another's is cleared."""
    members = bench.group(4, protocol, family)
    here = bench.wire.settings.cpu
    for number, cpu in ((members[1], here + 1), (members[2], here)):
        bench.set_option(number, socket.SO_INCOMING_CPU, cpu)
    bench[members[0]].close()
    assert bench.send_and_find_each(bench.packets(20, 0, protocol, family)) == [members[2]] * 20
    bench.set_option(members[1], socket.SO_INCOMING_CPU, NO_CPU)
    assert bench.send_and_find_each(bench.packets(20, 0, protocol, family)) == [members[2]] * 20


@promise("neighbours.incoming-cpu-joining")
@ledger("K19")
@each_protocol
@each_family
@pytest.mark.parametrize("place", [0, 2], ids=["first", "last"])
def test_cpu_that_was_set_before_joining_counts(bench: Bench, protocol: Protocol, family: Family, place: int) -> None:
    """SO_INCOMING_CPU counts also where it was set before the socket joined, or made, its group."""
    members = [bench.open(protocol, family, bind=False) for _ in range(3)]
    bench.set_option(members[place], socket.SO_INCOMING_CPU, bench.wire.settings.cpu)
    for number in members:
        bench.bind(number, family)
    assert bench.send_and_find_each(bench.packets(20, 0, protocol, family)) == [members[place]] * 20


@promise("neighbours.incoming-cpu-growth")
@ledger("K19")
@each_protocol
def test_cpu_of_a_member_outlasts_growth(bench: Bench, protocol: Protocol) -> None:
    """A group that grows over 128 members still prefers the one whose SO_INCOMING_CPU is the packet's CPU."""
    members = bench.group(INITIAL_SIZE, protocol)
    bench.set_option(members[5], socket.SO_INCOMING_CPU, bench.wire.settings.cpu)
    bench.open(protocol)
    assert bench.send_and_find_each(bench.packets(20, 0, protocol)) == [members[5]] * 20


@promise("neighbours.broadcast-many")
def test_many_members_each_get_a_copy_of_broadcast(bench: Bench) -> None:
    """A broadcast is delivered to each member also where more than ten sockets share the port."""
    members = bench.group(MANY)
    packet = bench.packet()
    bench.wire.send(frames.to_group(frame, Family.IPV4, "192.0.2.255") for frame in frames.datagram(packet))
    assert bench.read() == {number: [packet.payload] for number in members}


@promise("bind.many")
@each_protocol
@each_family
@each_address
def test_port_of_many_is_shared_with_no_one_else(
    bench: Bench, protocol: Protocol, family: Family, specific: bool
) -> None:
    """A port of more than ten sockets stays closed to other users, and to sockets without the option.

    So does one on the wildcard for those that bind to an address.
    """
    bench.group(MANY, protocol, family, family.server if specific else None)
    with refused(errno.EADDRINUSE):
        bench.open(protocol, family, family.server, user=ANOTHER_USER)
    with refused(errno.EADDRINUSE):
        bench.open(protocol, family, family.server, reuseport=False)
    last = bench.open(protocol, family, family.server)
    bench[last].close()


@promise("membership.stopped-in-any-order")
@needs_sysctl
@each_family
def test_stopped_listeners_come_back_and_close_in_any_order(bench: Bench, family: Family) -> None:
    """With tcp_migrate_req listeners that were shut down may listen again, or close, in any order.

    One that is stopped or closed gets no connection.
    """
    bench.wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    first, *stopping, last = bench.group(5, Protocol.TCP, family)

    def receivers() -> set[int | None]:
        return set(bench.send_and_find_each(bench.packets(60, 0, Protocol.TCP, family)))

    for number in stopping:
        bench[number].shutdown(socket.SHUT_RDWR)
    assert receivers() == {first, last}
    bench[stopping[1]].listen(64)
    assert receivers() == {first, stopping[1], last}
    bench[stopping[1]].close()
    assert receivers() == {first, last}
    for number in (stopping[2], stopping[0]):
        bench[number].listen(64)
    assert receivers() == {first, stopping[0], stopping[2], last}


@promise("membership.growth-keeps-stopped")
@needs_sysctl
@each_family
def test_stopped_listeners_outlast_growth(bench: Bench, attach_reference: AttachReference, family: Family) -> None:
    """A group with stopped listeners that grows over 128 sockets keeps them: each may listen again in it."""
    bench.wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    members = bench.group(INITIAL_SIZE, Protocol.TCP, family)
    program = attach_reference(members[:4])
    for number in members[1:4]:
        bench[number].shutdown(socket.SHUT_RDWR)
    joining = bench.group(3, Protocol.TCP, family)
    for index, number in enumerate(members[1:4], 1):
        bench[number].listen(64)
        bench.fill(program.inner, [number], first=index)
    packets = [bench.packet(index, Protocol.TCP, family) for index in range(4)]
    assert bench.send_and_find_each(packets) == members[:4]
    for number in joining:
        bench[number].close()


@promise("membership.resurrected-full")
@needs_sysctl
@each_family
def test_listener_that_listens_again_finds_room_in_a_full_group(bench: Bench, family: Family) -> None:
    """A listener that was stopped with its whole group joins one of 128 that came meanwhile, which grows for it.

    A member that stops then takes the place of no other: a filter selects by the place.
    """
    bench.wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    first = bench.open(Protocol.TCP, family)
    bench[first].shutdown(socket.SHUT_RDWR)
    members = bench.group(INITIAL_SIZE, Protocol.TCP, family)
    bench[first].listen(64)
    bench[members[0]].shutdown(socket.SHUT_RDWR)
    for place, number in ((0, first), (INITIAL_SIZE - 1, members[-1])):
        attach_classic(bench[first], returning(place))
        assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == number


@promise("membership.resurrected-together")
@needs_sysctl
@each_family
def test_stopped_group_joins_another_one_by_one(bench: Bench, family: Family) -> None:
    """Listeners that were stopped, all of a group, may listen again: each joins the group that came meanwhile."""
    bench.wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    stopped = bench.group(3, Protocol.TCP, family)
    for number in stopped:
        bench[number].shutdown(socket.SHUT_RDWR)
    (other,) = bench.group(1, Protocol.TCP, family)
    for number in stopped:
        bench[number].listen(64)
    assert set(bench.send_and_find_each(bench.packets(60, 0, Protocol.TCP, family))) == {other, *stopped}


def attach_and_close(bench: Bench, program: int) -> None:
    """Close all members."""
    bench.attach(bench.group(2)[0], program)
    bench.close()


def attach_another(bench: Bench, program: int) -> None:
    """Attach another program."""
    (member,) = bench.group(1)
    bench.attach(member, program)
    other = load_instructions("sk_reuseport", bpf.verdict(1))
    bench.attach(member, other)
    os.close(other)


def attach_and_detach(bench: Bench, program: int) -> None:
    """Detach the program."""
    (member,) = bench.group(1)
    bench.attach(member, program)
    bench.detach(member)


def attach_in_vain(bench: Bench, program: int) -> None:
    """Attach to a socket that may not have a program."""
    member = bench.open(reuseport=False)
    with refused(errno.EINVAL):
        bench.attach(member, program)


def attach_before_joining(bench: Bench, program: int) -> None:
    """Join a group with a socket that has one of its own, which bind() and listen() refuse but for TCP_REPAIR."""
    bench.group(2, Protocol.TCP)
    joining = bench.open(Protocol.TCP, bind=False)
    bench[joining].setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    bench.attach(joining, program)
    bench.bind(joining)
    with refused(errno.ENOENT):
        bench.detach(joining)


def attach_and_stop(bench: Bench, program: int) -> None:
    """Stop the group's only listener and let it listen again, which makes it a group of its own."""
    bench.wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    (member,) = bench.group(1, Protocol.TCP)
    bench.attach(member, program)
    bench[member].shutdown(socket.SHUT_RDWR)
    bench[member].listen(8)


def attach_and_shut_down(bench: Bench, program: int) -> None:
    """Shut the group's only listener down, without migration: it is in no group from then on."""
    (member,) = bench.group(1, Protocol.TCP)
    bench.attach(member, program)
    bench[member].shutdown(socket.SHUT_RDWR)


def attach_and_stop_some(bench: Bench, program: int) -> None:
    """Stop two listeners, let one listen again, and close all."""
    bench.wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    members = bench.group(3, Protocol.TCP)
    bench.attach(members[0], program)
    for number in members[1:]:
        bench[number].shutdown(socket.SHUT_RDWR)
    bench[members[1]].listen(8)
    bench.close()


@promise("attach.freed")
@pytest.mark.parametrize(
    "lose",
    [
        attach_and_close,
        attach_another,
        attach_and_detach,
        attach_in_vain,
        attach_before_joining,
        attach_and_shut_down,
        pytest.param(attach_and_stop, marks=needs_sysctl),
        pytest.param(attach_and_stop_some, marks=needs_sysctl),
    ],
    ids=lambda lose: lose.__name__.replace("_", "-"),
)
def test_program_is_freed_when_no_group_has_it(bench: Bench, lose: Callable[[Bench, int], None]) -> None:
    """A program that no group and no descriptor holds any more is gone, however its group lost it."""
    program = load_instructions("sk_reuseport", bpf.verdict(0))
    try:
        told = re.search(r"^prog_id:\s+(\d+)$", Path(f"/proc/self/fdinfo/{program}").read_text(), re.MULTILINE)
        assert told
        lose(bench, program)
        assert exists(int(told[1])), "the descriptor still holds it"
    finally:
        os.close(program)
    deadline = time.monotonic() + SECONDS_TO_FREE
    while exists(int(told[1])):
        assert time.monotonic() < deadline, "something still holds the program"
        time.sleep(0.001)


def exists(program_id: int) -> bool:
    """Tell whether the kernel has a program of that id."""
    try:
        os.close(call(f"find program {program_id}", "bpf_prog_get_fd_by_id", program_id))
    except BpfError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True
