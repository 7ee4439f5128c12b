# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""SO_REUSEPORT that a program on a cgroup sets for sockets which do not ask for it."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.cases import each_family, each_protocol, promise, requires
from harness.kernel.refusal import refused
from harness.loader import instructions as bpf
from harness.loader.cgroup import program_on_own_sockets
from harness.loader.load import load_instructions
from harness.model.abi import Result
from harness.model.layout import Family, Protocol
from harness.model.uapi import BPF_CGROUP_INET4_BIND, BPF_CGROUP_INET6_BIND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import Bench, LoadProgram


AT_BIND = {Family.IPV4: BPF_CGROUP_INET4_BIND, Family.IPV6: BPF_CGROUP_INET6_BIND}


@contextmanager
def option_set_at_bind(family: Family) -> Iterator[None]:
    """Let a program set SO_REUSEPORT on every socket of this process as it binds."""
    code = bpf.set_option(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1) + bpf.verdict(1)
    program = load_instructions("cgroup_sock_addr", code, attach_type=AT_BIND[family])
    try:
        with program_on_own_sockets(program, AT_BIND[family]):
            yield
    finally:
        os.close(program)


@promise("membership.option-from-bpf")
@each_protocol
@each_family
@requires("reuseport_from_bpf")
def test_option_that_a_program_sets_at_bind_makes_a_group(
    bench: Bench, load_for_test: LoadProgram, protocol: Protocol, family: Family
) -> None:
    """Sockets for which a program on their cgroup sets SO_REUSEPORT at bind() form a group, unasked."""
    with option_set_at_bind(family):
        members = [bench.open(protocol, family, reuseport=False) for _ in range(3)]
    assert all(bench[number].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for number in members)
    with refused(errno.EADDRINUSE):
        bench.open(protocol, family, reuseport=False)
    program = load_for_test("reference", size=3)
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    packets = [bench.packet(index, protocol, family) for index in range(3)]
    assert bench.send_and_find_each(packets) == members
    assert program.new_results() == {Result.PASS: 3}
