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

CASES, PANICS, SECONDS = 60, 30, 2.0
"""How many cases, which of them panics, and what each takes: together much longer than two boots."""


@pytest.mark.parametrize("number", range(CASES))
def test_shared(number: int, record_property: Callable[[str, object], None]) -> None:
    """Take a while; say in which VM."""
    if os.getppid() != 1 and os.getpid() != 1:
        pytest.skip("runs in a VM alone")
    record_property("observed", os.environ["REUSEPORT_VM"])
    time.sleep(SECONDS)
    if number == PANICS:
        Path("/proc/sysrq-trigger").write_text("c")
