# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which member an ICMP error is told to, and what it or a failed call leaves behind: a route exception, at most."""

from __future__ import annotations

import errno
import socket
from contextlib import closing
from functools import partial
from ipaddress import ip_address
from itertools import count
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_address, each_family, ledger, promise
from harness.kernel.refusal import refused
from harness.model.abi import Result
from harness.model.layout import Family, Protocol
from harness.wire import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.cases import AttachReference, Bench, Packet


MTU = 1300
MTU_OF_PATH = {Family.IPV4: (socket.IPPROTO_IP, 14), Family.IPV6: (socket.IPPROTO_IPV6, 24)}  # IP_MTU, IPV6_MTU
_hosts = count(20)
"""Each case has a path of its own: exceptions stay."""

RECVERR = {Family.IPV4: (socket.IPPROTO_IP, 11), Family.IPV6: (socket.IPPROTO_IPV6, 25)}  # IP_RECVERR, IPV6_RECVERR
PEER_PORT = 555

FAR = {Family.IPV4: ip_address("198.18.0.0"), Family.IPV6: ip_address("2001:db8:ffff::")}
"""RFC 2544's and RFC 3849's; routed back to the peer."""


def new_host(family: Family) -> str:
    """Return the address of a host that no case has heard of: the kernel remembers what it learns of one."""
    return str(FAR[family] + next(_hosts))


def path_mtu(family: Family, address: str) -> int:
    """Return the MTU that the kernel believes a path to have."""
    with closing(socket.socket(family.address_family, socket.SOCK_DGRAM)) as probe:
        probe.connect((address, 9))
        return probe.getsockopt(*MTU_OF_PATH[family])


@promise("icmp.too-big")
@pytest.mark.parametrize(
    ("family", "members"),
    [
        pytest.param(Family.IPV4, 0, id="ipv4-no-member", marks=ledger("K36")),
        pytest.param(Family.IPV4, 2, id="ipv4-members"),
        pytest.param(Family.IPV6, 0, id="ipv6-no-member", marks=ledger("K42")),
        pytest.param(Family.IPV6, 2, id="ipv6-members"),
    ],
)
def test_packet_too_big_makes_an_exception(
    bench: Bench, attach_reference: AttachReference, family: Family, members: int
) -> None:
    """An ICMP error "packet too big" makes a route exception, with or without a member, and runs no program.

    The exception is made before a socket is looked for (`udp_err_update_exception`); it was made through the socket.
    """
    program = attach_reference(bench.group(members, Protocol.UDP, family)) if members else None
    address = new_host(family)
    usual = path_mtu(family, address)
    packet = bench.packet(0, Protocol.UDP, family, source_address=address)
    assert bench.wire.send([frames.too_big(packet, MTU)]) == []
    assert (usual, path_mtu(family, address)) == (1500, MTU)
    if program is not None:
        assert program.new_results() == {}


each_error = pytest.mark.parametrize(
    ("error", "number", "final"),
    [
        pytest.param(frames.port_unreachable, errno.ECONNREFUSED, True, id="port-unreachable"),
        pytest.param(frames.no_route, errno.ENETUNREACH, False, id="no-route"),
        pytest.param(frames.time_exceeded, errno.EHOSTUNREACH, False, id="time-exceeded"),
        pytest.param(frames.parameter_problem, errno.EPROTO, True, id="parameter-problem"),
        pytest.param(partial(frames.too_big, mtu=MTU), errno.EMSGSIZE, True, id="too-big"),
    ],
)
"""What makes an ICMP error, its errno, and whether it is final (`icmp_err_convert`, `icmpv6_err_convert`)."""


def errors(bench: Bench, members: list[int]) -> list[int]:
    """Return what each member is told by SO_ERROR, 0 for nothing."""
    return [bench[number].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for number in members]


@promise("icmp.connected-hears")
@each_family
@each_error
def test_connected_member_hears_of_a_final_error(
    bench: Bench, family: Family, error: Callable[[Packet], bytes], number: int, final: bool
) -> None:
    """An ICMP error about a packet to a member's peer is told to that member, if it is final, and to no other."""
    members = bench.group(3, Protocol.UDP, family, family.server)
    address = new_host(family)
    bench[members[1]].connect((address, PEER_PORT))
    packet = bench.packet(0, Protocol.UDP, family, source_address=address, source_port=PEER_PORT)
    assert bench.wire.send([error(packet)]) == []
    assert errors(bench, members) == [0, number if final else 0, 0]


@promise("icmp.one-that-asked-hears")
@each_family
@each_error
@pytest.mark.parametrize("asks", [True, False], ids=["asks", "does-not-ask"])
def test_one_member_hears_of_any_error_if_it_asked(
    bench: Bench, family: Family, error: Callable[[Packet], bytes], number: int, final: bool, asks: bool
) -> None:
    """An ICMP error about a packet of members without a peer is told to one, final or not, if IP_RECVERR asks for it.

    Any of them may have sent the packet; the hash selects.
    """
    members = bench.group(3, Protocol.UDP, family, family.server)
    for member in members:
        bench[member].setsockopt(*RECVERR[family], asks)
    packet = bench.packet(0, Protocol.UDP, family, source_address=new_host(family))
    assert bench.wire.send([error(packet)]) == []
    assert sorted(errors(bench, members)) == [0, 0, number if asks else 0]


@promise("connected.failed-connect")
@each_family
@each_address
def test_connect_that_fails_leaves_the_member_where_it_is(
    bench: Bench, attach_reference: AttachReference, family: Family, specific: bool
) -> None:
    """A connect() that fails for want of a route leaves a member in its group and in its slot."""
    members = bench.group(2, Protocol.UDP, family, family.server if specific else None)
    program = attach_reference(members)
    with refused(errno.EACCES if family is Family.IPV4 else errno.ENETUNREACH):
        if family is Family.IPV4:
            bench[members[1]].connect(("255.255.255.255", 9))  # a broadcast, without SO_BROADCAST
        else:
            bench[members[1]].connect(("fe80::1", 9, 0, socket.if_nametoindex("lo")))
    for _ in range(3):
        assert bench.send_and_find(bench.packet(1, Protocol.UDP, family)) == members[1]
    assert program.new_results() == {Result.PASS: 3}


@promise("connected.failed-connect-device")
@ledger("K37")
def test_connect_that_fails_binds_to_no_device(bench: Bench) -> None:
    """A connect() to a link-local address that fails leaves the socket bound to no device (`__ip6_datagram_connect`).

    With the bug it stays bound to the address's device, and as the only member gets nothing from any other.
    """
    (member,) = bench.group(1, Protocol.UDP, Family.IPV6)
    with refused(errno.ENETUNREACH):
        bench[member].connect(("fe80::1", 9, 0, socket.if_nametoindex("lo")))
    assert bench[member].getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16) == b""
    assert bench.send_and_find(bench.packet(0, Protocol.UDP, Family.IPV6)) == member
