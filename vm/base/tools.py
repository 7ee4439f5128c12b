# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that have to be installed."""

from __future__ import annotations

import shutil

from vm.base.errors import MissingToolError


def find_tool(name: str, *, package: str) -> str:
    """Return the path of a program, also where a user's PATH lacks the sbin directories. Raises MissingToolError."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise MissingToolError(f"{name} is not installed: install the package {package}, or run ./bootstrap")
    return found
