# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The network namespaces of the kernel, and those that nothing leads to any more."""

from __future__ import annotations

import errno
from itertools import count
from pathlib import Path

from harness.kernel.holdings.descriptors import descriptors, namespace_of
from harness.kernel.holdings.holding import Holding, Left, least
from harness.wire.namespace import Namespace

_MOST_NAMESPACES = Path("/proc/sys/user/max_net_namespaces")
NAMESPACES_ARE_COUNTED = _MOST_NAMESPACES.exists()


class Namespaces(Holding):
    """The network namespaces beside the one of the boot; to look makes one, so it is done after a file alone.

    Only where this process is alone on the kernel: looking changes a limit of all.
    """

    def __init__(self) -> None:
        self._others = 0  # that this process does not hold: of the machine, or reported
        self._made = Namespace.made
        self._makers: list[str] = []
        self._looked = 0  # at so many of the makers

    def begin(self) -> None:
        """Count those that are there before the first case."""
        self._others = _beyond(_own() - 1) - 1

    def note(self, case: str) -> None:
        """Take note of whether a case has made any."""
        if Namespace.made != self._made:
            self._made = Namespace.made
            self._makers.append(case)

    def left(self, case: str) -> list[Left]:
        """Return how many were lost, with the cases that made any since the last look."""
        lost = _lost(self._others + _own())
        self._others += lost
        makers = self._makers[self._looked :] or self._makers
        self._looked, self._made = len(self._makers), Namespace.made
        if not lost:
            return []
        return [Left(f"{lost} network namespaces, of those made by {', '.join(makers) or 'no case'}")]


def _lost(expected: int) -> int:
    """Return how many namespaces there are more than expected when they become no fewer.

    One that was closed a moment ago is still counted, and of many a kernel with debugging on frees a few a second.
    """
    more = _beyond(expected)
    # While there are more than expected, this look makes none.
    while more and least(lambda: int(_more_than(expected))):
        if (now := _beyond(expected)) >= more:
            return now
        more = now
    return 0


def _own() -> int:
    """Return how many network namespaces this process is in, has descriptors of, or has sockets in."""
    found = {entry.stat().st_ino for entry in Path("/proc/self/task").glob("*/ns/net")}
    return len(found | {inode for each in descriptors() if (inode := namespace_of(*each)) is not None})


def _beyond(number: int) -> int:
    """Return how many namespaces there are more than `number`, beside the one of the boot."""
    return next(more for more in count() if not _more_than(number + more))


def _more_than(number: int) -> bool:
    """Tell whether there are more than so many network namespaces, beside the one that was there at boot.

    No interface tells their number. But the kernel counts a user's from unshare() until all of a namespace is freed
    (`cleanup_net`), and refuses one at the limit: for a moment the limit is that number, and one more is tried.
    """
    before = _MOST_NAMESPACES.read_text()
    _MOST_NAMESPACES.write_text(f"{number + 1}\n")
    try:
        Namespace.create().close()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return True
    finally:
        _MOST_NAMESPACES.write_text(before)
    return False
