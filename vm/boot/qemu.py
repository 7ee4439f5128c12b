# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find QEMU, and refuse one that is too old."""

from __future__ import annotations

import functools
import os
import re
import subprocess

from vm.base.errors import MissingToolError
from vm.base.tools import find_tool
from vm.boot.acceleration import SUBSTITUTE

QEMU = "qemu-system-x86_64"
OLDEST = (5, 2)
"""The first version that knows the CPU feature fsrm, which `vm.boot.qemu_command` switches off for emulated guests.

The other options are older: -fsdev's multidevs= is from 4.2, an ELF kernel with a PVH entry for -kernel from 4.0.
"""


@functools.cache
def find_qemu() -> str:
    """Return QEMU's path, if its version is new enough; to ask takes 20 ms.

    Raises MissingToolError when it is not there, too old, or does not run.
    """
    path = find_tool(QEMU, package="qemu-system-x86")
    try:
        told = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise MissingToolError(f"{path} cannot be run: {error.strerror}. Install QEMU again") from error
    version = re.search(r"version (\d+)\.(\d+)", told.stdout)
    if version is None:
        words = (told.stderr.strip() or told.stdout.strip() or "nothing").splitlines()[-1]
        raise MissingToolError(f"{path} does not tell its version but says: {words}. Install QEMU again")
    if (int(version[1]), int(version[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise MissingToolError(
            f"{path} is QEMU {version[1]}.{version[2]}, and {oldest} is the oldest that can boot a VM here: "
            f"upgrade it, or put a newer {QEMU} before it on PATH"
        )
    return path


def program() -> str:
    """Return the path of the program that runs VMs: QEMU's, or of what tests run instead. Raises MissingToolError."""
    return os.environ.get(SUBSTITUTE, "").partition(" ")[0] or find_qemu()


def demand_qemu() -> None:
    """Raise what `find_qemu` raises, unless tests run something else instead of QEMU."""
    program()
