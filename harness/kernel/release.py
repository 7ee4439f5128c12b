# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A kernel's version with its point release, read from what uname(2) returns. Pure but for `running`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, order=True)
class Release:
    """A kernel's version: `Release(6, 1, 192)`."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> Release:
        """Return the version that a text starts with ("6.1.0-56-amd64", "5.9"); ValueError if it names none."""
        found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
        if not found:
            raise ValueError(f"{text!r} names no kernel version")
        major, minor, patch = found.groups(default="0")
        return cls(int(major), int(minor), int(patch))

    @property
    def series(self) -> tuple[int, int]:
        """Return the stable series: (6, 1) of 6.1.192."""
        return self.major, self.minor

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" + (f".{self.patch}" if self.patch else "")


def of_uname(release: str, version: str, signature: str = "") -> Release:
    """Return the upstream version behind `uname -r` and `uname -v`.

    A distribution keeps "6.1.0" in the release as long as the series lives. The point release that was built is in the
    version (Debian: "... Debian 6.1.192-2 (2026-..)") or in /proc/version_signature (Ubuntu: its last word).
    """
    stated = Release.parse(release)
    words = [*version.split(), *signature.split()[-1:]]
    for word in words:
        if re.fullmatch(r"\d+\.\d+\.\d+(?:[-~+].*)?", word) and Release.parse(word).series == stated.series:
            return max(stated, Release.parse(word))
    return stated


@cache
def running() -> Release:
    """Return the version of the kernel that this process runs on."""
    name = os.uname()
    try:
        signature = Path("/proc/version_signature").read_text()
    except OSError:
        signature = ""
    return of_uname(name.release, name.version, signature)
