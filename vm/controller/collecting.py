# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Collect the cases on the host while kernels boot, so that guests find the bytecode that Python and pytest keep."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from vm.base.lifeline import lifeline
from vm.guest import bytecode

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def collect_here(config: pytest.Config, file: Path) -> subprocess.Popen[bytes] | None:
    """Start a process that collects the cases; None where Python keeps no bytecode.

    A guest keeps no files. To rewrite the assertions of all cases takes an emulated one 15 seconds, which pytest's own
    files spare it. `file` will hold the bytecode of everything else (`vm.guest.bytecode`).
    """
    if sys.dont_write_bytecode:
        return None
    return subprocess.Popen(
        [*lifeline("KILL"), sys.executable, *collection_arguments(config), "-p", bytecode.__name__],
        env={**os.environ, bytecode.FILE: str(file)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def collection_arguments(config: pytest.Config) -> list[str]:
    """Return the arguments with which a Python collects the cases of this run."""
    return [
        *("-m", "pytest", "--rootdir", str(config.rootpath), "--collect-only", "-q"),
        *(("-c", str(config.inipath)) if config.inipath else ()),
        *("-p", "no:cacheprovider", *config.args),
    ]
