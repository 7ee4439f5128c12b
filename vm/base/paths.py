# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Directories that all parts of vm/ share."""

from __future__ import annotations

from pathlib import Path

import platformdirs

PROJECT = Path(__file__).resolve().parents[2]
"""The directory in which this package was found: a checkout of the project."""


def cache_root() -> Path:
    """Return the directory of this project's caches; XDG_CACHE_HOME moves it."""
    return platformdirs.user_cache_path("reuseport-harness", appauthor=False)
