# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Name the versions of the tools that a run rests on."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess

_PROGRAMS = {"qemu": "qemu-system-x86_64", "clang": "clang"}
_DISTRIBUTIONS = ("pytest", "pytest-xdist", "execnet", "virtme-ng", "scapy")


def versions() -> dict[str, str]:
    """Return the version of each tool that is installed."""
    found = {"python": platform.python_version(), "host kernel": platform.release()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    for name, program in _PROGRAMS.items():
        if version := _version_of(program):
            found[name] = version
    return found


def _version_of(program: str) -> str | None:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    match = re.search(r"version (\S+)", said)
    return match[1] if match else None
