# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""In real VMs: a checkout whose path a kernel's parameters cannot say."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from started import KERNEL, ROOT, started

if TYPE_CHECKING:
    from pathlib import Path


def test_checkout_whose_path_has_blanks(tmp_path: Path) -> None:
    checkout = tmp_path / "a checkout ä's"
    for part in ("harness", "vm"):
        shutil.copytree(ROOT / part, checkout / part)
    variables = {"PYTHONPATH": str(checkout)}
    with started(tmp_path / "a run ü", "--kernel", KERNEL, cases="before", variables=variables) as run:
        assert run.ended() == 0, run.output
        assert run.left() == []
    assert run.outcomes == {"test_before": "passed"}
