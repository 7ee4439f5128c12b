# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a guest's Python needs to become a worker of pytest-xdist; pytest is not imported on the host for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def with_plugins(names: list[str]) -> dict[str, str]:
    """Return the variables that make pytest load these plugins and not look for others.

    To look, it reads the entry points of every installed distribution.
    """
    return {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": ",".join(names)}


def xdist_worker() -> str:
    """Return the source of xdist's worker, without importing it: that would import all of pytest."""
    package = importlib.util.find_spec("xdist")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name("remote.py").read_text()
