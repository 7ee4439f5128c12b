# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Cases that several VMs of one kernel share, one of which brings its VM down."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

CASES, PANICS = 60, 30
"""How many cases, and which of them panics."""

SIGNS, GO = "signs", "go"
"""The directory in which the host puts a file for all VMs to go on. A guest does not hear of a file that it has looked
for in vain, but lists a directory anew."""


@pytest.fixture(autouse=True, scope="module")
def others() -> None:
    """Wait until the host has seen that all VMs are at work."""
    if os.getppid() != 1 and os.getpid() != 1:
        pytest.skip("runs in a VM alone")
    while GO not in os.listdir(SIGNS):  # noqa: PTH208  # lists it anew
        time.sleep(0.1)


@pytest.mark.parametrize("number", range(CASES))
def test_shared(number: int, record_property: Callable[[str, object], None]) -> None:
    """Say in which VM; one panics."""
    record_property("observed", os.environ["REUSEPORT_VM"])
    if number == PANICS:
        Path("/proc/sysrq-trigger").write_text("c")
