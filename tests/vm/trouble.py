# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Cases that bring trouble over the kernel they run on; the tests in this directory run them, in VMs to lose."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.group.protocols import LoadProgram
    from harness.wire.veth import Wire

KEPT: dict[str, tuple[socket.socket, socket.socket]] = {}
"""What lives as long as the process."""

_BPF, _RAW_TRACEPOINT_OPEN = 321, 17  # the system call of x86-64 and its command (enum bpf_cmd)


@pytest.fixture(autouse=True)
def only_in_a_vm() -> None:
    """Spare the machine of whoever runs this file by hand."""
    if os.getppid() != 1 and os.getpid() != 1:
        pytest.skip("runs in a VM alone")


def spin_at(tracepoint: str) -> None:
    """Have the kernel loop, as good as for ever, when it next comes by (spin.bpf.c)."""
    from harness.loader.object import Object

    spin = Object(Path(os.environ["SPIN_OBJECT"]))
    spin.load()
    name = ctypes.create_string_buffer(tracepoint.encode())
    attribute = struct.pack("=QI4x", ctypes.addressof(name), spin.program_fds()[tracepoint])
    assert ctypes.CDLL(None).syscall(_BPF, _RAW_TRACEPOINT_OPEN, attribute, len(attribute)) >= 0
    signal.pause()


def test_before() -> None:
    """Pass."""


def test_panic() -> None:
    """Crash the kernel (Documentation/admin-guide/sysrq.rst: `c`)."""
    Path("/proc/sysrq-trigger").write_text("c")


def test_splat() -> None:
    """Say on the console what a kernel says when it complains."""
    Path("/dev/kmsg").write_text("<4>WARNING: CPU: 0 PID: 1 at net/core/sock_reuseport.c:1 planted\n")


def test_leak(wire: Wire, load_for_test: LoadProgram) -> None:
    """Leave a map to the kernel alone: in a message that nobody reads."""
    inner = load_for_test("reference").inner
    assert inner is not None, "the reference program has a map of sockets"
    here, _ = KEPT.setdefault("queue", socket.socketpair(socket.AF_UNIX))
    here.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", inner.fd))])


def test_wait() -> None:
    """Wait for what comes from outside."""
    signal.pause()


def test_lockup() -> None:
    """Loop in the kernel, with interrupts on: its soft lockup detector panics after twice the threshold."""
    Path("/proc/sys/kernel/watchdog_thresh").write_text("1")
    spin_at("sys_enter")


def test_hang() -> None:
    """Loop in the kernel with interrupts off: nothing in the guest runs any more, its watchdogs included."""
    spin_at("hrtimer_expire_entry")


def test_after() -> None:
    """Pass."""
