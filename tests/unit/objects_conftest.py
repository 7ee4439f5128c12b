# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The conftest.py of a project in a test: hand workers a file, as the harness does with compiled programs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give it a file that is on the controller's machine alone."""
    file = Path(os.environ["HOME"], "compiled.bpf.o")
    file.write_bytes(b"\x7fELF")
    node.workerinput["objects"] = {"reference": str(file)}
