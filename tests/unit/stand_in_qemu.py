# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make a QEMU that does no more than a shell script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vm.boot.qemu import QEMU

if TYPE_CHECKING:
    from pathlib import Path


def qemu(directory: Path, script: str) -> Path:
    """Make a QEMU of this script in a directory of its own, and return the directory, which goes on PATH."""
    directory.mkdir()
    (directory / QEMU).write_text(f"#!/bin/sh\n{script}\n")
    (directory / QEMU).chmod(0o755)
    return directory
