# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The descriptors of this process, and those that cases left open."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.kernel.holdings.holding import Holding, Left

if TYPE_CHECKING:
    from collections.abc import Iterator

_DESCRIPTORS = Path("/proc/self/fd")
_SIOCGSKNS = 0x894C  # include/uapi/linux/sockios.h: a descriptor of the socket's network namespace
_TOLD = ("socket:", "net:")
"""Of descriptors that stay open these are told: reports and logs have files of their own, and the witness, which lives
longer than the session's fixtures, has BPF objects."""


def descriptors() -> Iterator[tuple[int, str]]:
    """Yield each descriptor of this process and what it leads to, such as "socket:[4711]"."""
    for entry in list(_DESCRIPTORS.iterdir()):
        try:
            yield int(entry.name), str(entry.readlink())
        except FileNotFoundError:  # the one that listed them
            continue


def namespace_of(number: int, target: str) -> int | None:
    """Return the inode of the network namespace that a descriptor is of, or that its socket is in; None if neither."""
    if target.startswith("net:"):
        return os.fstat(number).st_ino
    if not target.startswith("socket:"):
        return None
    namespace = fcntl.ioctl(number, _SIOCGSKNS)
    try:
        return os.fstat(namespace).st_ino
    finally:
        os.close(namespace)


class Descriptors(Holding):
    """The open sockets and namespaces. Fixtures of the session keep some, so they are told when it has ended."""

    def __init__(self) -> None:
        self._at_first: set[tuple[int, str]] = set()
        self._seen: dict[tuple[int, str], str] = {}

    def begin(self) -> None:
        """Take note of what is open before the first case."""
        self._at_first = _open()

    def left(self, case: str) -> list[Left]:
        """Take note of what is open after a file; return []."""
        for each in _open():
            self._seen.setdefault(each, case)
        return []

    def left_at_end(self, case: str) -> list[Left]:
        """Return what is still open, with the last case of the file after which it was first seen."""
        self.left(case)
        still = sorted(_open() - self._at_first)
        return [Left(f"descriptor {each[0]}, {each[1]}, seen since {self._seen[each]}") for each in still]


def _open() -> set[tuple[int, str]]:
    return {each for each in descriptors() if each[1].startswith(_TOLD)}
