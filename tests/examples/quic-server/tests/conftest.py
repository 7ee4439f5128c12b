# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The server's own fixture: the harness's are there by its entry point, and nothing names it here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.cases import Bench, OwnProgram


@pytest.fixture
def workers(bench: Bench, own_program: OwnProgram) -> list[int]:
    """Return the sockets of four workers, worker N in slot N."""
    opened = bench.group(4)
    bench.attach(opened[0], own_program)
    for slot, number in enumerate(opened):
        own_program.put(slot, bench[number].fileno())
    return opened
