# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What may be attached to a group and detached from it, with the errno of every refusal.

net/core/filter.c and net/core/sock_reuseport.c decide. One member's attachment is the whole group's. The program stays
when its file descriptor and its maps' are closed.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_address, each_family, each_protocol, promise, recorded, requires, returning
from harness.group.sockets import socket_of
from harness.kernel.features import present
from harness.kernel.refusal import refused
from harness.loader import instructions as bpf
from harness.loader.libc import libc
from harness.loader.load import load_instructions
from harness.loader.maps import create_map
from harness.loader.program import attach_classic
from harness.model.abi import Result
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind
from harness.model.uapi import (
    BPF_SK_REUSEPORT_SELECT,
    BPF_SK_REUSEPORT_SELECT_OR_MIGRATE,
    BPF_XDP,
    ENOTSUPP,
    SO_ATTACH_BPF,
    SO_ATTACH_REUSEPORT_EBPF,
    SO_DETACH_REUSEPORT_BPF,
    SO_LOCK_FILTER,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.cases import AttachReference, Bench, LoadProgram

CLOSED_FD = 1 << 20
BPF_MAXINSNS = 4096  # include/uapi/linux/bpf_common.h
LOAD_WORD, JUMP, LOAD_HEADER_LENGTH = 0x20, 0x05, 0xB1
"""Classic instructions: `ld [k]`, `ja k`, `ldxb 4*([k]&0xf)` (include/uapi/linux/bpf_common.h)."""

OPTION_MEMORY = 128 * 1024
"""The largest net.core.optmem_max that a kernel has by itself (net/core/sock.c)."""


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


@promise("attach.optlen")
@pytest.mark.parametrize("length", [0, 1, 2, 3, 8, 16])
def test_option_of_another_length_is_refused(bench: Bench, passes: int, length: int) -> None:
    """SO_ATTACH_REUSEPORT_EBPF takes the four bytes of a file descriptor, no fewer and no more (`sk_setsockopt`)."""
    number = bench.open(bind=False)
    with refused(errno.EINVAL):
        bench.set_option(number, SO_ATTACH_REUSEPORT_EBPF, struct.pack("=iiii", passes, 0, 0, 0)[:length])


@promise("attach.closed-fd")
@each_protocol
@each_family
def test_closed_descriptor_is_refused(bench: Bench, family: Family, protocol: Protocol) -> None:
    """Attaching a descriptor that is not open is EBADF (`__bpf_prog_get`)."""
    number = bench.open(protocol, family, bind=False)
    with refused(errno.EBADF):
        bench.attach(number, CLOSED_FD)


@promise("attach.not-a-program")
@each_protocol
@each_family
def test_descriptor_of_something_else_is_refused(bench: Bench, family: Family, protocol: Protocol) -> None:
    """Attaching the descriptor of a socket or of a map is EINVAL: neither is a program (`__bpf_prog_get`)."""
    number = bench.open(protocol, family, bind=False)
    with closing(create_map("array", value_size=4, max_entries=1)) as array:
        for fd in (bench[number].fileno(), array.fd):
            with refused(errno.EINVAL):
                bench.attach(number, fd)


@promise("attach.program-type")
@pytest.mark.parametrize("kind", ["xdp", "sched_cls"])
def test_program_of_another_type_is_refused(bench: Bench, kind: str) -> None:
    """A group takes programs of the types SOCKET_FILTER and SK_REUSEPORT alone; others are EINVAL."""
    number = bench.open(bind=False)
    fd = load_instructions(kind, bpf.verdict(0))
    try:
        with refused(errno.EINVAL):
            bench.attach(number, fd)
    finally:
        os.close(fd)


@promise("attach.socket-filter")
@each_protocol
@each_family
def test_socket_filter_is_attached(bench: Bench, family: Family, protocol: Protocol) -> None:
    """A group takes a program of the older type SOCKET_FILTER by the same option."""
    number = bench.open(protocol, family, bind=False)
    fd = load_instructions("socket_filter", bpf.verdict(0))
    bench.attach(number, fd)
    os.close(fd)
    bench.detach(number)


@promise("attach.classic-invalid")
@each_protocol
@pytest.mark.parametrize(
    "program",
    [
        pytest.param([], id="empty"),
        pytest.param([(LOAD_WORD, 0, 0, 0)], id="without-an-end"),
        pytest.param([(JUMP, 0, 0, 5), *returning(0)], id="jump-beyond-the-end"),
        pytest.param([(0xFFFF, 0, 0, 0), *returning(0)], id="no-instruction"),
        pytest.param(returning(0) * (BPF_MAXINSNS + 1), id="more-than-4096-instructions"),
    ],
)
def test_invalid_classic_program_is_refused(
    bench: Bench, protocol: Protocol, program: Sequence[tuple[int, int, int, int]]
) -> None:
    """A classic program that the kernel cannot run is EINVAL, and the group keeps the one that it has."""
    number = bench.open(protocol)
    attach_classic(bench[number], returning(0))
    with refused(errno.EINVAL):
        attach_classic(bench[number], program)
    bench.detach(number)


@promise("attach.too-large")
@each_protocol
@pytest.mark.parametrize("kind", ["classic", "socket_filter", "sk_reuseport"])
def test_filter_larger_than_option_memory_is_refused(bench: Bench, protocol: Protocol, kind: str) -> None:
    """A filter that takes more memory than net.core.optmem_max is ENOMEM; SK_REUSEPORT programs have no such limit.

    The limit is 20 KiB, and 128 KiB from Linux 6.8 on, unless an administrator changed it.
    """
    number = bench.open(protocol)
    attach_classic(bench[number], returning(0))
    if kind == "classic":
        # The kernel makes six instructions of each at least, of eight bytes.
        with refused(errno.ENOMEM):
            attach_classic(bench[number], ((LOAD_HEADER_LENGTH, 0, 0, 0),) * (BPF_MAXINSNS - 1) + returning(0))
    else:
        fd = load_instructions(kind, bpf.move(bpf.R6, 0) * (OPTION_MEMORY // 8) + bpf.verdict(1))
        with refused(errno.ENOMEM) if kind == "socket_filter" else nullcontext():
            bench.attach(number, fd)
        os.close(fd)
    bench.detach(number)


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
    with socket_of(family, kind, protocol) as made, refused(ENOTSUPP):
        made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, passes)


@promise("attach.wrong-option")
@each_protocol
def test_attach_bpf_is_the_wrong_option(bench: Bench, passes: int, protocol: Protocol) -> None:
    """SO_ATTACH_BPF takes a socket filter for the one socket; an SK_REUSEPORT program is EINVAL (`sk_attach_bpf`)."""
    number = bench.open(protocol, bind=False)
    with refused(errno.EINVAL):
        bench.set_option(number, SO_ATTACH_BPF, passes)


@promise("attach.locked")
@each_protocol
@each_family
def test_locked_filter_refuses_an_attachment(bench: Bench, passes: int, protocol: Protocol, family: Family) -> None:
    """A socket with SO_LOCK_FILTER attaches no other program to its group: EPERM."""
    number = bench.open(protocol, family)
    bench.attach(number, passes)
    bench.set_option(number, SO_LOCK_FILTER, 1)
    with refused(errno.EPERM):
        bench.attach(number, passes)


@promise("attach.locked-other-member", "detach.locked")
@each_protocol
def test_lock_stops_one_member_from_attaching_alone(bench: Bench, passes: int, protocol: Protocol) -> None:
    """SO_LOCK_FILTER binds its own socket alone: another member may attach, and the locked one may detach."""
    locked, other = bench.group(2, protocol)
    bench.set_option(locked, SO_LOCK_FILTER, 1)
    bench.attach(other, passes)
    bench.detach(locked)
    with refused(errno.ENOENT):
        bench.detach(other)


@promise("attach.unbound")
@each_protocol
@each_family
def test_attachment_before_bind_survives_it(bench: Bench, drops: int, protocol: Protocol, family: Family) -> None:
    """A program attached before bind() starts a group of its own, and decides for those that join later too."""
    first = bench.open(protocol, family, bind=False)
    bench.attach(first, drops)
    bench.bind(first, family)
    second = bench.open(protocol, family)
    assert bench.send_and_find_each(bench.packets(20, 0, protocol, family)) == [None] * 20
    bench.detach(second)
    assert set(bench.send_and_find_each(bench.packets(20, 0, protocol, family))) <= {first, second}


@promise("attach.unbound-any")
@each_protocol
@each_family
@each_address
def test_attachment_before_bind_learns_of_the_wildcard(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, family: Family, specific: bool
) -> None:
    """`bind_inany` becomes true when the group that was made before bind() is bound to the wildcard, and no else."""
    program = load_for_test("reference", size=1)
    first = bench.open(protocol, family, bind=False)
    bench.attach(first, program)
    bench.bind(first, family, family.server if specific else None)
    bench.fill(program.inner, [first])
    assert bench.send_and_find(bench.packet(0, protocol, family)) == first
    assert recorded(program).bind_inany == (not specific)


@promise("attach.without-reuseport")
@each_protocol
@each_family
def test_socket_without_the_option_is_refused(bench: Bench, passes: int, protocol: Protocol, family: Family) -> None:
    """A socket without SO_REUSEPORT has no group, bound or not: attaching is EINVAL (`reuseport_attach_prog`)."""
    for bind in (False, True):
        number = bench.open(protocol, family, reuseport=False, bind=bind)
        with refused(errno.EINVAL):
            bench.attach(number, passes)


@promise("attach.option-after-bind")
@each_family
def test_option_set_after_bind_makes_no_group(bench: Bench, passes: int, family: Family) -> None:
    """A UDP socket that sets SO_REUSEPORT after bind() still has no group to attach to: EINVAL."""
    number = bench.open(Protocol.UDP, family, reuseport=False)
    bench.set_option(number, socket.SO_REUSEPORT, 1)
    with refused(errno.EINVAL):
        bench.attach(number, passes)


@promise("attach.any-member")
@each_protocol
@each_family
def test_every_member_can_attach_for_the_group(
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
@each_protocol
def test_socket_that_joins_is_under_the_program(bench: Bench, drops: int, protocol: Protocol) -> None:
    """The program is the group's: it decides for sockets that join after it was attached too."""
    bench.attach(bench.open(protocol), drops)
    bench.group(3, protocol)
    assert bench.send_and_find_each(bench.packets(20, 0, protocol)) == [None] * 20


@promise("attach.survives-its-member")
@each_protocol
def test_program_outlives_the_member_it_came_through(bench: Bench, drops: int, protocol: Protocol) -> None:
    """The program stays when the socket closes through which it was attached."""
    first, _, _ = bench.group(3, protocol)
    bench.attach(first, drops)
    bench[first].close()
    assert bench.send_and_find_each(bench.packets(20, 0, protocol)) == [None] * 20


@promise("attach.dies-with-group")
@each_protocol
def test_program_goes_with_the_last_member(bench: Bench, drops: int, protocol: Protocol) -> None:
    """The program goes with the group's last member: a new group on the same port has none."""
    number = bench.open(protocol)
    bench.attach(number, drops)
    bench[number].close()
    again = bench.open(protocol)
    assert bench.send_and_find_each(bench.packets(5, 0, protocol)) == [again] * 5


@promise("attach.descriptors-closed")
@each_protocol
@each_family
def test_selection_goes_on_when_the_descriptors_are_closed(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol, family: Family
) -> None:
    """No descriptor need stay open: the group holds the program, the program its maps, the outer map the inner one."""
    members = bench.group(4, protocol, family)
    attach_reference(members).close()
    packets = [bench.packet(index, protocol, family) for index in range(4)]
    assert bench.send_and_find_each(packets) == members


@promise("attach.returns-zero")
@each_protocol
def test_attaching_and_detaching_return_zero(bench: Bench, passes: int, protocol: Protocol) -> None:
    """setsockopt(2) returns 0, as it attaches a program, puts it in the place of another, and detaches it.

    Python tells a refusal from a success, but not one success from another.
    """
    member, program = bench[bench.open(protocol, Family.IPV4)], struct.pack("=i", passes)
    options = [SO_ATTACH_REUSEPORT_EBPF, SO_ATTACH_REUSEPORT_EBPF, SO_DETACH_REUSEPORT_BPF]
    returned = [libc.setsockopt(member.fileno(), socket.SOL_SOCKET, option, program, 4) for option in options]
    assert returned == [0, 0, 0]


@promise("detach.once")
@each_protocol
@each_family
def test_detaching_works_once(bench: Bench, passes: int, protocol: Protocol, family: Family) -> None:
    """Any member detaches the group's program; the next to try is told ENOENT."""
    first, second = bench.group(2, protocol, family)
    bench.attach(first, passes)
    bench.detach(second)
    for number in (first, second):
        with refused(errno.ENOENT):
            bench.detach(number)


@promise("detach.unbound")
@each_protocol
@each_family
def test_detaching_before_bind(bench: Bench, drops: int, protocol: Protocol, family: Family) -> None:
    """A program that was attached before bind() may be detached before it, too: once."""
    number = bench.open(protocol, family, bind=False)
    bench.attach(number, drops)
    bench.detach(number)
    with refused(errno.ENOENT):
        bench.detach(number)
    bench.bind(number, family)
    assert bench.send_and_find(bench.packet(0, protocol, family)) == number


@promise("detach.no-program")
@each_protocol
@each_family
def test_detaching_where_none_was_attached(bench: Bench, protocol: Protocol, family: Family) -> None:
    """Detaching is ENOENT where a group has no program, and where a socket with SO_REUSEPORT has no group yet."""
    bound = bench.open(protocol, family)
    unbound = bench.open(protocol, family, bind=False)
    for number in (bound, unbound):
        with refused(errno.ENOENT):
            bench.detach(number)


@promise("detach.stopped")
@requires("tcp_migrate_req")
@each_family
def test_listener_that_was_stopped_detaches_nothing(
    bench: Bench, attach_reference: AttachReference, family: Family
) -> None:
    """A listener that was shut down, and waits among the closed ones of its group, detaches nothing: ENOENT."""
    bench.wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    members = bench.group(2, Protocol.TCP, family)
    program = attach_reference(members)
    bench[members[1]].shutdown(socket.SHUT_RDWR)
    with refused(errno.ENOENT):
        bench.detach(members[1])
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == members[0]
    assert program.new_results() == {Result.PASS: 1}


@promise("detach.without-reuseport")
@each_protocol
@each_family
def test_detaching_from_a_socket_without_the_option(bench: Bench, protocol: Protocol, family: Family) -> None:
    """Detaching through a socket without SO_REUSEPORT is EINVAL."""
    number = bench.open(protocol, family, reuseport=False)
    with refused(errno.EINVAL):
        bench.detach(number)


@promise("detach.any-length")
def test_detaching_reads_an_integer(bench: Bench, passes: int) -> None:
    """SO_DETACH_REUSEPORT_BPF wants four bytes, as every integer option does, and ignores what they say."""
    number = bench.open()
    bench.attach(number, passes)
    with refused(errno.EINVAL):
        bench.set_option(number, SO_DETACH_REUSEPORT_BPF, b"\1")
    bench.set_option(number, SO_DETACH_REUSEPORT_BPF, -1)
    with refused(errno.ENOENT):
        bench.detach(number)


def migrates(bench: Bench, program: int) -> bool:
    """Tell whether a connection under the program moves to another listener when its own closes."""
    closing_one = bench.open(Protocol.TCP)
    bench.attach(closing_one, program)
    packet = bench.packet(0, Protocol.TCP)
    syn_ack = bench.send_syn(packet)
    bench.open(Protocol.TCP)
    bench[closing_one].close()
    replies = bench.send_ack(packet, syn_ack)
    bench.close()
    bench.wire.read_replies()
    return ReplyKind.RESET not in replies


@promise("attach.type-default")
def test_default_attach_type_is_select(bench: Bench) -> None:
    """A program that is loaded without an attach type is one of type SELECT: it migrates no connection."""
    types = [0, BPF_SK_REUSEPORT_SELECT]
    if present("select_or_migrate"):
        types.append(BPF_SK_REUSEPORT_SELECT_OR_MIGRATE)
    found = {}
    for attach_type in types:
        program = load_instructions("sk_reuseport", bpf.verdict(1), attach_type=attach_type)
        found[attach_type] = migrates(bench, program)
        os.close(program)
    assert found == {attach_type: attach_type == BPF_SK_REUSEPORT_SELECT_OR_MIGRATE for attach_type in types}


@promise("attach.type-checked")
@requires("select_or_migrate")
@pytest.mark.usefixtures("wire")
def test_attach_type_of_another_kind_is_refused() -> None:
    """A program is loaded with the attach type SELECT or SELECT_OR_MIGRATE alone (d5e4ddaeb6ab, Linux 5.14)."""
    os.close(load_instructions("sk_reuseport", bpf.verdict(1), attach_type=BPF_SK_REUSEPORT_SELECT_OR_MIGRATE))
    with refused(errno.EINVAL):
        load_instructions("sk_reuseport", bpf.verdict(1), attach_type=BPF_XDP)


@promise("attach.migrating-program")
@each_protocol
@requires("select_or_migrate")
def test_program_for_migration_selects_too(bench: Bench, protocol: Protocol) -> None:
    """A program of the attach type SELECT_OR_MIGRATE decides on packets as any other."""
    fd = load_instructions("sk_reuseport", bpf.verdict(0), attach_type=BPF_SK_REUSEPORT_SELECT_OR_MIGRATE)
    number = bench.open(protocol)
    bench.attach(number, fd)
    os.close(fd)
    assert bench.send_and_find(bench.packet(0, protocol)) is None


@promise("attach.same-program-twice")
@each_protocol
def test_one_program_serves_several_groups(bench: Bench, attach_reference: AttachReference, protocol: Protocol) -> None:
    """A program may be attached to many groups; it selects only within the group that the packet is for."""
    specific = bench.open(protocol, address=Family.IPV4.server)
    wildcard = bench.open(protocol)
    bench.attach(wildcard, attach_reference([specific, wildcard]))
    assert bench.send_and_find(bench.packet(0, protocol)) == specific
    assert bench.send_and_find(bench.packet(1, protocol)) is None, "a member of another group cannot be selected"


@promise("attach.drop-no-fall-through")
@each_protocol
@each_family
def test_drop_by_a_specific_group_is_final(bench: Bench, drops: int, protocol: Protocol, family: Family) -> None:
    """SK_DROP by the group on the address does not fall through to the group on the wildcard."""
    specific = bench.open(protocol, family, family.server)
    wildcard = bench.open(protocol, family)
    bench.attach(specific, drops)
    assert bench.send_and_find_each(bench.packets(10, 0, protocol, family)) == [None] * 10
    bench[specific].close()
    assert bench.send_and_find(bench.packet(0, protocol, family)) == wildcard
