# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Who may attach what to a group and detach it, with the errno of every refusal (net/core/filter.c, sock_reuseport.c).

One member's attachment is the whole group's. The program stays when its file descriptor and its maps' are closed.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.kernel.refusal import refused
from harness.loader import instructions as bpf
from harness.loader.load import load_instructions
from harness.loader.maps import create_map
from harness.model.layout import Family, Protocol
from harness.model.uapi import (
    BPF_SK_REUSEPORT_SELECT_OR_MIGRATE,
    ENOTSUPP,
    SO_ATTACH_BPF,
    SO_ATTACH_REUSEPORT_EBPF,
    SO_LOCK_FILTER,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.group.bench import Bench
    from harness.loader.program import Program

promise = pytest.mark.promise
both = pytest.mark.parametrize("protocol", Protocol)
families = pytest.mark.parametrize("family", Family)

IPPROTO_UDPLITE, IPPROTO_SCTP = 136, 132
SELECT_ATTACH_TYPE, XDP_ATTACH_TYPE = 39, 37


@pytest.fixture(scope="module")
def passes(wire: object) -> Iterator[int]:
    """Return a program that passes everything to the hash."""
    fd = load_instructions("sk_reuseport", bpf.verdict(1))
    yield fd
    os.close(fd)


@pytest.fixture(scope="module")
def drops(wire: object) -> Iterator[int]:
    """Return a program that drops everything."""
    fd = load_instructions("sk_reuseport", bpf.verdict(0))
    yield fd
    os.close(fd)


def member(family: Family = Family.IPV4, protocol: Protocol = Protocol.UDP) -> socket.socket:
    """Return a socket with SO_REUSEPORT that is bound to nothing yet."""
    made = socket.socket(family.address_family, protocol.socket_type)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made


def attach(made: socket.socket, fd: int) -> None:
    """Attach by the program's file descriptor."""
    made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, fd)


@promise("attach.optlen")
@pytest.mark.parametrize("length", [0, 1, 2, 3, 8, 16])
def test_option_of_another_length_is_refused(passes: int, length: int) -> None:
    """The option's value is the four bytes of a file descriptor."""
    with closing(member()) as made, refused(errno.EINVAL):
        made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, struct.pack("=iiii", passes, 0, 0, 0)[:length])


@promise("attach.closed-fd")
@both
@families
@pytest.mark.usefixtures("wire")
def test_closed_descriptor_is_refused(family: Family, protocol: Protocol) -> None:
    """A descriptor that is not open is no program."""
    with closing(member(family, protocol)) as made, refused(errno.EBADF):
        attach(made, 1 << 20)


@promise("attach.not-a-program")
@both
@families
@pytest.mark.usefixtures("wire")
def test_descriptor_of_something_else_is_refused(family: Family, protocol: Protocol) -> None:
    """A file, a socket or a map is no program."""
    with closing(member(family, protocol)) as made, closing(create_map("array", value_size=4, max_entries=1)) as array:
        for fd in (made.fileno(), array.fd):
            with refused(errno.EINVAL):
                attach(made, fd)


@promise("attach.program-type")
@pytest.mark.parametrize("kind", ["xdp", "sched_cls"])
@pytest.mark.usefixtures("wire")
def test_program_of_another_type_is_refused(kind: str) -> None:
    """SOCKET_FILTER and SK_REUSEPORT are the two types that a group takes."""
    fd = load_instructions(kind, bpf.verdict(0))
    with closing(member()) as made, refused(errno.EINVAL):
        try:
            attach(made, fd)
        finally:
            os.close(fd)


@promise("attach.socket-filter")
@both
@families
@pytest.mark.usefixtures("wire")
def test_socket_filter_is_attached(family: Family, protocol: Protocol) -> None:
    """The older type returns a place in the group; the option is the same."""
    fd = load_instructions("socket_filter", bpf.verdict(0))
    with closing(member(family, protocol)) as made:
        attach(made, fd)
        os.close(fd)


@promise("attach.socket-kind")
@pytest.mark.parametrize(
    ("family", "kind", "protocol"),
    [
        pytest.param(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP, id="raw-udp"),
        pytest.param(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP, id="raw-tcp"),
        pytest.param(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_UDP, id="raw-udp6"),
        pytest.param(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP, id="ping"),
        pytest.param(socket.AF_UNIX, socket.SOCK_DGRAM, 0, id="unix-datagram"),
        pytest.param(socket.AF_UNIX, socket.SOCK_STREAM, 0, id="unix-stream"),
        pytest.param(socket.AF_PACKET, socket.SOCK_RAW, 0, id="packet"),
        pytest.param(socket.AF_NETLINK, socket.SOCK_RAW, 0, id="netlink"),
    ],
)
def test_socket_without_groups_is_refused(passes: int, family: int, kind: int, protocol: int) -> None:
    """Only TCP and UDP sockets, stream and datagram, over IPv4 and IPv6 take an SK_REUSEPORT program: else 524."""
    try:
        made = socket.socket(family, kind, protocol)
    except PermissionError:  # ping sockets are for the groups of net.ipv4.ping_group_range
        Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
        made = socket.socket(family, kind, protocol)
    with closing(made), refused(ENOTSUPP):
        attach(made, passes)


@promise("attach.wrong-option")
@both
def test_attach_bpf_is_the_wrong_option(passes: int, protocol: Protocol) -> None:
    """SO_ATTACH_BPF takes a socket filter for the one socket, never a program for the group."""
    with closing(member(protocol=protocol)) as made, refused(errno.EINVAL):
        made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_BPF, passes)


@promise("attach.locked")
@both
@families
def test_locked_filter_refuses_an_attachment(bench: Bench, passes: int, protocol: Protocol, family: Family) -> None:
    """SO_LOCK_FILTER keeps the program that is there, through this socket."""
    number = bench.open(protocol, family)
    bench.attach(number, passes)
    bench[number].setsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER, 1)
    with refused(errno.EPERM):
        bench.attach(number, passes)


@promise("attach.locked-other-member", "detach.locked")
@both
def test_lock_is_one_members_and_bars_no_detaching(bench: Bench, passes: int, protocol: Protocol) -> None:
    """The lock is the socket's: another member may attach, and the locked one may detach."""
    locked, other = bench.group(2, protocol)
    bench[locked].setsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER, 1)
    bench.attach(other, passes)
    bench.detach(locked)
    with refused(errno.ENOENT):
        bench.detach(other)


@promise("attach.unbound")
@both
@families
def test_attachment_before_bind_survives_it(bench: Bench, drops: int, protocol: Protocol, family: Family) -> None:
    """A socket that is not bound yet starts a group of its own; those that join later inherit the program."""
    first = bench.adopt(member(family, protocol))
    bench.attach(first, drops)
    bench[first].setblocking(False)
    bench[first].bind((family.any, bench.port))
    if protocol is Protocol.TCP:
        bench[first].listen(128)
    bench.open(protocol, family)
    assert bench.send_and_find_each(bench.packets(20, 0, protocol, family)) == [None] * 20
    bench.detach(1)
    assert None not in bench.send_and_find_each(bench.packets(20, 0, protocol, family))


@promise("attach.unbound-any")
@both
@families
def test_attachment_before_bind_learns_of_the_wildcard(
    bench: Bench, load_program: Callable[..., Program], protocol: Protocol, family: Family
) -> None:
    """`bind_inany` becomes true when the group that was made before bind() is bound to the wildcard."""
    with load_program("reference", size=1) as program:
        first = bench.adopt(member(family, protocol))
        bench.attach(first, program)
        bench[first].setblocking(False)
        bench[first].bind((family.any, bench.port))
        if protocol is Protocol.TCP:
            bench[first].listen(128)
        bench.fill(program.inner, [first])
        assert bench.send_and_find(bench.packet(0, protocol, family)) == first
        context, _ = program.context()
        assert context is not None
        assert context.bind_inany


@promise("attach.without-reuseport")
@both
@families
def test_socket_without_the_option_is_refused(bench: Bench, passes: int, protocol: Protocol, family: Family) -> None:
    """A socket that is not to share its port has no group, bound or not."""
    for bind in (False, True):
        number = bench.open(protocol, family, reuseport=False, bind=bind)
        with refused(errno.EINVAL):
            bench.attach(number, passes)


@promise("attach.option-after-bind")
@families
def test_option_set_after_bind_makes_no_group(bench: Bench, passes: int, family: Family) -> None:
    """A UDP socket that was bound without SO_REUSEPORT stays without a group."""
    number = bench.open(Protocol.UDP, family, reuseport=False)
    bench[number].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    with refused(errno.EINVAL):
        bench.attach(number, passes)


@promise("attach.any-member")
@both
@families
def test_every_member_speaks_for_the_group(
    bench: Bench, passes: int, drops: int, protocol: Protocol, family: Family
) -> None:
    """Attaching through any member replaces the whole group's program; the last attachment wins."""
    members = bench.group(4, protocol, family)
    for number in members:
        bench.attach(number, drops)
        assert bench.send_and_find_each(bench.packets(5, 0, protocol, family)) == [None] * 5
        bench.attach(members[-1 - number], passes)
        assert None not in bench.send_and_find_each(bench.packets(5, 0, protocol, family))


@promise("attach.joining-inherits")
@both
def test_socket_that_joins_is_under_the_program(bench: Bench, drops: int, protocol: Protocol) -> None:
    """The program is the group's, not that of the members it was attached through."""
    bench.attach(bench.open(protocol), drops)
    for _ in range(3):
        bench.open(protocol)
    assert bench.send_and_find_each(bench.packets(20, 0, protocol)) == [None] * 20


@promise("attach.survives-its-member")
@both
def test_program_outlives_the_member_it_came_through(bench: Bench, drops: int, protocol: Protocol) -> None:
    """The program stays when the socket closes through which it was attached."""
    first, _, _ = bench.group(3, protocol)
    bench.attach(first, drops)
    bench[first].close()
    assert bench.send_and_find_each(bench.packets(20, 0, protocol)) == [None] * 20


@promise("attach.dies-with-group")
@both
def test_program_goes_with_the_last_member(bench: Bench, drops: int, protocol: Protocol) -> None:
    """A group on the same port that is made anew has no program."""
    number = bench.open(protocol)
    bench.attach(number, drops)
    bench[number].close()
    again = bench.open(protocol)
    assert bench.send_and_find_each(bench.packets(5, 0, protocol)) == [again] * 5


@promise("attach.descriptors-closed")
@both
@families
def test_selection_goes_on_when_the_descriptors_are_closed(
    bench: Bench, load_program: Callable[..., Program], protocol: Protocol, family: Family
) -> None:
    """The group holds the program, the program its maps, the outer map the inner one."""
    members = bench.group(4, protocol, family)
    program = load_program("reference", size=4)
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    program.close()
    for number in members:
        assert bench.send_and_find(bench.packet(number, protocol, family)) == number


@promise("detach.once")
@both
@families
def test_detaching_works_once(bench: Bench, passes: int, protocol: Protocol, family: Family) -> None:
    """Any member detaches the group's program; then there is none left to detach."""
    first, second = bench.group(2, protocol, family)
    bench.attach(first, passes)
    bench.detach(second)
    for number in (first, second):
        with refused(errno.ENOENT):
            bench.detach(number)


@promise("detach.no-program")
@both
@families
def test_detaching_where_none_was_attached(bench: Bench, protocol: Protocol, family: Family) -> None:
    """A group without a program, and a socket that could have a group, have nothing to detach."""
    bound = bench.open(protocol, family)
    unbound = bench.open(protocol, family, bind=False)
    for number in (bound, unbound):
        with refused(errno.ENOENT):
            bench.detach(number)


@promise("detach.without-reuseport")
@both
@families
def test_detaching_from_a_socket_without_the_option(bench: Bench, protocol: Protocol, family: Family) -> None:
    """A socket that is not to share its port is asked in error."""
    number = bench.open(protocol, family, reuseport=False)
    with refused(errno.EINVAL):
        bench.detach(number)


@promise("detach.any-length")
def test_detaching_reads_an_integer(bench: Bench, passes: int) -> None:
    """As every integer option, detaching needs four bytes to be given, whatever they say."""
    number = bench.open()
    bench.attach(number, passes)
    with refused(errno.EINVAL):
        bench[number].setsockopt(socket.SOL_SOCKET, 68, b"\1")
    bench[number].setsockopt(socket.SOL_SOCKET, 68, struct.pack("=i", -1))


@promise("attach.type-default")
@pytest.mark.usefixtures("wire")
def test_attach_type_unsaid_is_select() -> None:
    """A loader that knows no attach types is understood on every kernel."""
    for attach_type in (0, SELECT_ATTACH_TYPE):
        os.close(load_instructions("sk_reuseport", bpf.verdict(1), attach_type=attach_type))


@promise("attach.type-checked")
@pytest.mark.requires("select_or_migrate")
@pytest.mark.usefixtures("wire")
def test_attach_type_of_another_kind_is_refused() -> None:
    """SELECT and SELECT_OR_MIGRATE are the two attach types (d5e4ddaeb6ab, Linux 5.14)."""
    os.close(load_instructions("sk_reuseport", bpf.verdict(1), attach_type=BPF_SK_REUSEPORT_SELECT_OR_MIGRATE))
    with refused(errno.EINVAL):
        load_instructions("sk_reuseport", bpf.verdict(1), attach_type=XDP_ATTACH_TYPE)


@promise("attach.migrating-program")
@both
@pytest.mark.requires("select_or_migrate")
def test_program_for_migration_selects_too(bench: Bench, protocol: Protocol) -> None:
    """A program of the attach type SELECT_OR_MIGRATE decides on packets as any other."""
    fd = load_instructions("sk_reuseport", bpf.verdict(0), attach_type=BPF_SK_REUSEPORT_SELECT_OR_MIGRATE)
    number = bench.open(protocol)
    bench.attach(number, fd)
    os.close(fd)
    assert bench.send_and_find(bench.packet(0, protocol)) is None


@promise("attach.same-program-twice")
@both
def test_one_program_serves_several_groups(
    bench: Bench, load_program: Callable[..., Program], protocol: Protocol
) -> None:
    """A program is attached to as many groups as like; it selects only within the group that the packet is for."""
    specific = bench.open(protocol, address=Family.IPV4.server)
    wildcard = bench.open(protocol)
    with load_program("reference", size=2) as program:
        bench.fill(program.inner, [specific, wildcard])
        bench.attach(specific, program)
        bench.attach(wildcard, program)
        assert bench.send_and_find(bench.packet(0, protocol)) == specific
        assert bench.send_and_find(bench.packet(1, protocol)) is None, "a member of another group cannot be selected"


@promise("attach.drop-no-fall-through")
@both
@families
def test_drop_by_a_specific_group_is_final(bench: Bench, drops: int, protocol: Protocol, family: Family) -> None:
    """SK_DROP by the group on the address does not fall through to the group on the wildcard."""
    specific = bench.open(protocol, family, family.server)
    wildcard = bench.open(protocol, family)
    bench.attach(specific, drops)
    assert bench.send_and_find_each(bench.packets(10, 0, protocol, family)) == [None] * 10
    bench[specific].close()
    assert bench.send_and_find(bench.packet(0, protocol, family)) == wildcard
