# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What needs which capability: making the map and the program does, attaching and being selected does not."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from harness.kernel.release import Release, running
from harness.kernel.unprivileged import CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN, errno_without
from harness.loader import instructions as bpf
from harness.loader.load import load_instructions
from harness.loader.maps import create_map
from harness.model.layout import Family, Protocol

if TYPE_CHECKING:
    from harness.group.bench import Bench

promise = pytest.mark.promise
both = pytest.mark.parametrize("protocol", Protocol)
families = pytest.mark.parametrize("family", Family)

PASSES = bpf.verdict(1)


def make_array() -> None:
    """Make a sockarray."""
    create_map("sockarray", max_entries=1).close()


def load_program() -> None:
    """Load a program."""
    os.close(load_instructions("sk_reuseport", PASSES))


@promise("unprivileged.map", "unprivileged.load")
@pytest.mark.parametrize("action", [make_array, load_program])
@pytest.mark.parametrize("keeping", [(), (CAP_NET_ADMIN,)], ids=["nothing", "net-admin"])
@pytest.mark.usefixtures("wire")
def test_map_and_program_need_a_capability(action: object, keeping: tuple[int, ...]) -> None:
    """Neither is made without CAP_BPF (before 5.8: CAP_SYS_ADMIN); CAP_NET_ADMIN is no stand-in."""
    assert callable(action)
    assert errno_without(action, keeping=keeping) == errno.EPERM


@promise("unprivileged.cap-sys-admin")
@pytest.mark.parametrize("action", [make_array, load_program])
@pytest.mark.usefixtures("wire")
def test_cap_sys_admin_is_enough(action: object) -> None:
    """CAP_SYS_ADMIN has always been enough."""
    assert callable(action)
    assert errno_without(action, keeping=[CAP_SYS_ADMIN]) == 0


@promise("unprivileged.cap-bpf")
@pytest.mark.parametrize("action", [make_array, load_program])
@pytest.mark.usefixtures("wire")
def test_cap_bpf_is_enough_since_it_exists(action: object) -> None:
    """CAP_BPF alone is enough from 5.8 on: no CAP_NET_ADMIN, as for a socket filter (2c78ee898d8f)."""
    assert callable(action)
    assert errno_without(action, keeping=[CAP_BPF]) == (0 if running() >= Release(5, 8) else errno.EPERM)


@promise("unprivileged.attach", "unprivileged.detach")
@both
@families
def test_whoever_holds_a_program_may_attach_it(bench: Bench, protocol: Protocol, family: Family) -> None:
    """Attaching and detaching need no capability, only the descriptors of socket and program."""
    number = bench.open(protocol, family)
    program = load_instructions("sk_reuseport", PASSES)
    assert errno_without(lambda: bench.attach(number, program)) == 0
    assert errno_without(lambda: bench.detach(number)) == 0
    os.close(program)


@promise("unprivileged.join")
@both
@families
def test_joining_a_group_needs_none_either(bench: Bench, protocol: Protocol, family: Family) -> None:
    """A group is for its user's sockets, privileged or not."""
    bench.open(protocol, family)
    assert errno_without(lambda: bench.open(protocol, family)) == 0


@promise("unprivileged.selected")
@families
def test_selection_reaches_across_a_process(bench: Bench, family: Family) -> None:
    """A socket that another process holds, without rights, is a member as any other."""
    number = bench.open(Protocol.UDP, family)

    def receive() -> None:
        bench[number].setblocking(True)
        if bench[number].recv(100) != b"here":
            raise OSError(errno.EBADMSG, "another datagram")

    with socket.socket(family.address_family, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"here", (family.server, bench.port))
        assert errno_without(receive) == 0
