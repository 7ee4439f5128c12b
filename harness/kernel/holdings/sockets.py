# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The sockets of a network namespace, and those of which neither a descriptor nor a connection is left."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.kernel.holdings.descriptors import descriptors, namespace_of
from harness.kernel.holdings.holding import Holding, Left, least
from harness.wire.namespace import Namespace

_NET = Path("/proc/thread-self/net")
_NOT_COUNTED = {"03", "06"}
"""States in /proc/net/tcp of what is no whole socket: a request (shown as SYN_RECV) and TIME_WAIT."""


class SocketCount:
    """The number of sockets in the network namespace that is present when this is made, whatever their family.

    The kernel counts from sk_alloc() to the end of the last reference (sock_inuse_add(), net/core/sock.c): orphans and
    what waits in accept queues included, requests and TIME_WAIT not. The file stays open, as it is read often; `close`
    closes it.
    """

    def __init__(self) -> None:
        self._file = os.open(_NET / "sockstat", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> int:
        """Return the number at this moment."""
        found = re.match(rb"sockets: used (\d+)", os.pread(self._file, 64, 0))
        assert found is not None, "/proc/net/sockstat begins with another line"
        return int(found[1])

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Sockets(Holding):
    """The sockets of the network namespace that is present when this is made."""

    def __init__(self) -> None:
        self._place = Namespace.current()
        self._count = SocketCount()
        self._course: list[tuple[str, int]] = []
        self._reported = 0

    def note(self, case: str) -> None:
        """Take note of how many there are after a case."""
        self._course.append((case, self._count.read()))

    def left(self, case: str) -> list[Left]:
        """Return how many were lost in a file, with the case since which there were as many as at its end."""

        def lost() -> int:
            return max(0, self._count.read() - _own() - _of_connections() - self._reported)

        with self._place.inside():
            number = least(lost)
        self._reported += number
        at_end = self._course[-1][1]
        since = case
        for before, count in reversed(self._course):
            if count < at_end:
                break
            since = before
        self._course.clear()
        return [Left(f"{number} sockets that no descriptor leads to, seen since {since}")] if number else []

    def left_at_end(self, case: str) -> list[Left]:
        """Return the same, and close what this holds itself."""
        found = self.left(case)
        self._count.close()
        self._place.close()
        return found


def _own() -> int:
    """Return how many sockets of the present network namespace this process has descriptors of."""
    here = Path("/proc/thread-self/ns/net").stat().st_ino
    return len({each[1] for each in descriptors() if each[1].startswith("socket:") and namespace_of(*each) == here})


def _of_connections() -> int:
    """Return how many TCP sockets of the present namespace belong to a connection and to no process.

    They are in an accept queue, or closed and not yet done with their peer.
    """
    lines = [line.split() for file in ("tcp", "tcp6") for line in (_NET / file).read_text().splitlines()[1:]]
    return sum(1 for line in lines if line[9] == "0" and line[3] not in _NOT_COUNTED)
