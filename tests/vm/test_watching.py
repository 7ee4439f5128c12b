# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`python -m harness watch` in a VM, at servers that answer: its counts are theirs, and it leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from started import HERE, KERNEL, started

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kernel", [KERNEL, "5.10"])  # 5.10 gives no reason for a drop
def test_watch_counts_what_the_servers_received(tmp_path: Path, kernel: str) -> None:
    with started(tmp_path / "run", "--kernel", kernel, source=HERE / "watching.py") as run:
        assert run.ended() == 0, run.output
    assert run.outcomes == {"test_counts_are_what_the_servers_had": "passed"}
