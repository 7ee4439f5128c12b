# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Capabilities: making a map and loading a program needs one; attaching, joining and being selected do not."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family, each_protocol, promise
from harness.interface.keys import KERNEL_LOG, OWN_KERNEL_LOG
from harness.kernel.release import Release, running
from harness.kernel.unprivileged import CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN, errno_without
from harness.loader import instructions as bpf
from harness.loader.load import load_instructions
from harness.loader.maps import create_map
from harness.model.layout import Family, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import Bench


Action = Callable[[], None]

PASSES = bpf.verdict(1)
UNPRIVILEGED = Path("/proc/sys/kernel/unprivileged_bpf_disabled")
OFF_FOR_GOOD = "1"


def make_array() -> None:
    """Make a sockarray."""
    create_map("sockarray", max_entries=1).close()


def make_plain_array() -> None:
    """Make a map that holds numbers."""
    create_map("array", value_size=4, max_entries=1).close()


@pytest.fixture
def bpf_for_everyone() -> Iterator[None]:
    """Let processes without capabilities call bpf(2), in a VM alone: on any other machine that lets all its users."""
    if os.environ.get(KERNEL_LOG) != OWN_KERNEL_LOG:
        pytest.skip("it would let all users of this machine call bpf(2): run it in a VM")
    before = UNPRIVILEGED.read_text()
    if before.strip() == OFF_FOR_GOOD:
        pytest.skip("kernel.unprivileged_bpf_disabled is 1, which cannot be taken back")
    UNPRIVILEGED.write_text("0")
    yield
    UNPRIVILEGED.write_text(before)


def load_program() -> None:
    """Load a program."""
    os.close(load_instructions("sk_reuseport", PASSES))


@promise("unprivileged.map", "unprivileged.load")
@pytest.mark.parametrize("action", [make_array, load_program])
@pytest.mark.parametrize("keeping", [(), (CAP_NET_ADMIN,)], ids=["nothing", "net-admin"])
@pytest.mark.usefixtures("wire")
def test_map_and_program_need_a_capability(action: Action, keeping: tuple[int, ...]) -> None:
    """Without CAP_BPF (before 5.8: CAP_SYS_ADMIN) no sockarray is made and no program loaded: EPERM."""
    assert errno_without(action, keeping=keeping) == errno.EPERM


@promise("unprivileged.map-of-its-own")
@pytest.mark.usefixtures("wire", "bpf_for_everyone")
def test_sockarray_needs_a_capability_where_other_maps_do_not() -> None:
    """Where kernel.unprivileged_bpf_disabled lets everyone make maps, a sockarray needs CAP_BPF all the same: EPERM."""
    assert errno_without(make_plain_array) == 0
    assert errno_without(make_array) == errno.EPERM


@promise("unprivileged.cap-sys-admin")
@pytest.mark.parametrize("action", [make_array, load_program])
@pytest.mark.usefixtures("wire")
def test_cap_sys_admin_is_enough(action: Action) -> None:
    """CAP_SYS_ADMIN alone is enough to make a sockarray and to load a program."""
    assert errno_without(action, keeping=[CAP_SYS_ADMIN]) == 0


@promise("unprivileged.cap-bpf")
@pytest.mark.parametrize("action", [make_array, load_program])
@pytest.mark.usefixtures("wire")
def test_cap_bpf_is_enough_since_it_exists(action: Action) -> None:
    """CAP_BPF alone is enough to make a sockarray and to load a program from Linux 5.8 on (2c78ee898d8f)."""
    assert errno_without(action, keeping=[CAP_BPF]) == (0 if running() >= Release(5, 8) else errno.EPERM)


@promise("unprivileged.attach", "unprivileged.detach")
@each_protocol
@each_family
def test_whoever_holds_a_program_may_attach_it(bench: Bench, protocol: Protocol, family: Family) -> None:
    """Attaching and detaching need no capability, only the descriptors of socket and program."""
    number = bench.open(protocol, family)
    program = load_instructions("sk_reuseport", PASSES)
    assert errno_without(lambda: bench.attach(number, program)) == 0
    assert errno_without(lambda: bench.detach(number)) == 0
    os.close(program)


@promise("unprivileged.join")
@each_protocol
@each_family
def test_joining_a_group_needs_no_capability(bench: Bench, protocol: Protocol, family: Family) -> None:
    """Joining a group needs no capability."""
    bench.open(protocol, family)
    assert errno_without(lambda: bench.open(protocol, family)) == 0


@promise("unprivileged.selected")
@each_family
def test_member_without_capabilities_receives(bench: Bench, family: Family) -> None:
    """A member whose process has no capability receives what is selected for it as any other."""
    number = bench.open(Protocol.UDP, family)

    def receive() -> None:
        bench[number].setblocking(True)
        if bench[number].recv(100) != b"here":
            raise OSError(errno.EBADMSG, "another datagram")

    with socket.socket(family.address_family, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"here", (family.server, bench.port))
        assert errno_without(receive) == 0
