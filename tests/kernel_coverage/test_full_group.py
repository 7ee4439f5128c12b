# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Cases that take 300 MB of a guest: a group that can have no more members.

The array of a group doubles, from 128, and does not become larger than a 16-bit number can say (`reuseport_grow`).
"""

from __future__ import annotations

import errno
import resource
import socket
from typing import TYPE_CHECKING

import pytest

from harness.cases import Family, Protocol, requires
from harness.kernel.refusal import refused
from harness.model.uapi import SO_DETACH_REUSEPORT_BPF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import Bench, LoadProgram

MOST = 0x8000
"""Members: the largest power of two of which the double is beyond 65,535."""

FULL = {Protocol.TCP: errno.ENOMEM, Protocol.UDP: errno.EADDRINUSE}
"""What joining says then: bind() of UDP takes it for a port that is in use (net/ipv4/udp.c, `udp_lib_get_port`)."""


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, MOST + 1000), max(hard, MOST + 1000)))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("protocol", Protocol)
def test_full_group_takes_nobody_until_someone_leaves(bench: Bench, protocol: Protocol) -> None:
    """The member after the 32,768th is refused; when another has left there is a place again."""
    members = bench.group(MOST, protocol)
    with refused(FULL[protocol]):
        bench.open(protocol)
    assert bench.send_and_find(bench.packet(0, protocol)) in members
    bench[members.pop()].close()
    bench.sockets.pop()
    last = bench.open(protocol)
    assert bench.send_and_find(bench.packet(0, protocol)) in {*members, last}


@requires("select_or_migrate")
def test_full_group_lets_go_of_one_that_was_stopped(bench: Bench, load_for_test: LoadProgram) -> None:
    """A listener that was shut down has a place among the closed ones; where no other is left, it loses it.

    It has no group then: a program is detached through it no more, its port may change its CPU, and it closes.
    """
    program = load_for_test("migrate", size=2)
    members = bench.group(MOST, Protocol.TCP, Family.IPV4)
    bench.attach(members[0], program)
    bench[members[1]].shutdown(socket.SHUT_RDWR)
    assert bench.open(Protocol.TCP) == MOST
    with refused(errno.ENOENT):
        bench.set_option(members[1], SO_DETACH_REUSEPORT_BPF, 0)
    bench[members[1]].setsockopt(socket.SOL_SOCKET, socket.SO_INCOMING_CPU, 0)
    with refused(FULL[Protocol.TCP]):
        bench.open(Protocol.TCP)
    bench.set_option(members[0], SO_DETACH_REUSEPORT_BPF, 0)
    assert bench.send_and_find(bench.packet(0, Protocol.TCP)) not in {None, members[1]}
