# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What an ICMP error or a failed call leaves behind: a route exception, but no member that is bound or gone."""

from __future__ import annotations

import errno
import socket
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_address, each_family, ledger, promise
from harness.kernel.refusal import refused
from harness.model.abi import Result
from harness.model.layout import Family, Protocol
from harness.wire import frames

if TYPE_CHECKING:
    from harness.cases import AttachReference, Bench


MTU = 1300
MTU_OF_PATH = {Family.IPV4: (socket.IPPROTO_IP, 14), Family.IPV6: (socket.IPPROTO_IPV6, 24)}  # IP_MTU, IPV6_MTU
_hosts = count(20)
"""Each case has a path of its own: exceptions stay."""

FAR = {Family.IPV4: "198.51.100.{}", Family.IPV6: "2001:db8:ffff::{}"}


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
    address = FAR[family].format(next(_hosts))
    usual = path_mtu(family, address)
    packet = bench.packet(0, Protocol.UDP, family, source_address=address)
    assert bench.wire.send([frames.too_big(packet, MTU)]) == []
    assert (usual, path_mtu(family, address)) == (1500, MTU)
    if program is not None:
        assert program.new_results() == {}


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
