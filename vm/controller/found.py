# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Tell the process that started this one which cases are found: a plugin of the pytest that collects on the host."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from harness.interface.keys import ALONE_MARK

if TYPE_CHECKING:
    import pytest

PIPE = "REUSEPORT_FOUND"
"""The environment variable that names the file descriptor to write to."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write the cases as JSON and close the pipe; those that need the machine to themselves are left out."""
    cases = [item.nodeid for item in session.items if not item.get_closest_marker(ALONE_MARK)]
    with open(int(os.environ[PIPE]), "w", encoding="utf-8") as pipe:  # noqa: PTH123  # a descriptor, not a path
        json.dump(cases, pipe)
