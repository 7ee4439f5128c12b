# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Cases that bring trouble over the kernel they run on; tests/vm/test_outcomes.py runs them, each in a VM to lose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def only_in_a_vm() -> None:
    """Spare the machine of whoever runs this file by hand."""
    if os.getppid() != 1 and os.getpid() != 1:
        pytest.skip("runs in a VM alone")


def test_before() -> None:
    """Pass."""


def test_panic() -> None:
    """Crash the kernel (Documentation/admin-guide/sysrq.rst: `c`)."""
    Path("/proc/sysrq-trigger").write_text("c")


def test_splat() -> None:
    """Say on the console what a kernel says when it complains."""
    Path("/dev/kmsg").write_text("<4>WARNING: CPU: 0 PID: 1 at net/core/sock_reuseport.c:1 planted\n")


def test_after() -> None:
    """Pass."""
