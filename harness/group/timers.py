# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""TCP's timer of a SYN-ACK, set to go off early or late, by the kernel's own means."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.loader import instructions as bpf
from harness.loader.cgroup import program_on_own_sockets
from harness.loader.load import load_instructions
from harness.model.uapi import BPF_CGROUP_SOCK_OPS

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT_INIT = 1  # BPF_SOCK_OPS_TIMEOUT_INIT (include/uapi/linux/bpf.h)
_OP, _REPLY = 0, 4  # offsets in struct bpf_sock_ops
_EARLY = 25
"""Jiffies: from 25 ms at 1000 Hz to 250 ms at 100 Hz, which is enough for a slow guest to close a listener before."""

_LATE = 30_000
"""Jiffies: 30 s at 1000 Hz, longer at less. No case takes that long to answer."""


@contextmanager
def early_syn_ack_timer() -> Iterator[None]:
    """Let the listeners that this process opens send a SYN-ACK again after 25 jiffies, not after a second.

    Raises what `program_on_own_sockets` raises.
    """
    with _timer(_EARLY):
        yield


@contextmanager
def late_syn_ack_timer() -> Iterator[None]:
    """Let the listeners that this process opens send no SYN-ACK again while a slow guest takes over a second.

    Raises what `program_on_own_sockets` raises.
    """
    with _timer(_LATE):
        yield


@contextmanager
def _timer(jiffies: int) -> Iterator[None]:
    # tcp_timeout_init() (include/net/tcp.h) asks the program; tcp_conn_request() starts the timer with its answer.
    code = b"".join((
        bpf.load(4, bpf.R2, bpf.R1, _OP),
        bpf.skip_unless_equal(bpf.R2, _TIMEOUT_INIT, 2),
        bpf.move(bpf.R3, jiffies),
        bpf.store_register(4, bpf.R1, bpf.R3, _REPLY),
        bpf.verdict(1),
    ))  # fmt: skip
    program = load_instructions("sock_ops", code)
    try:
        with program_on_own_sockets(program, BPF_CGROUP_SOCK_OPS):
            yield
    finally:
        os.close(program)
