# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A case that has a group, its wire and its maps on the running kernel, and waits to be interrupted."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.model.layout import InnerMap

if TYPE_CHECKING:
    from harness.group.reuseport_group import ReuseportGroup


@pytest.mark.shapes(inner_map=InnerMap.SOCKARRAY)
def test_wait(group: ReuseportGroup) -> None:
    """Say who it is, and wait."""
    assert group
    Path("waits.tmp").write_text(str(os.getpid()))
    Path("waits.tmp").rename("waits")
    signal.pause()
