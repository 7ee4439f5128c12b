# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is left of a history whose sockets are closed: a port that is still taken, sockets that the kernel keeps."""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING

from harness.kernel.holdings.sockets import SocketCount

if TYPE_CHECKING:
    from harness.model.layout import Protocol

_SECONDS, _SECONDS_AGAIN = 2.0, 0.5
"""How long a socket may still be on its way: one of a sockmap goes with a grace period and a worker of the kernel.

Once one was kept longer, the history is made shorter: that takes many tries, each of which waits as long.
"""


def is_taken(protocol: Protocol, port: int) -> bool:
    """Return whether any socket has a port: then one for all addresses, without SO_REUSEPORT, is refused."""
    with socket.socket(socket.AF_INET6, protocol.socket_type) as made:
        try:
            made.bind(("::", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return True
    return False


class SocketsInUse:
    """The namespace's sockets between two histories; it is for histories that are alone there. `close` closes it."""

    def __init__(self) -> None:
        self._count = SocketCount()
        self._fewest = self._count.read()
        self._seconds = _SECONDS

    def begin(self) -> None:
        """Note how many there are as a history begins. What an earlier one left may still be on its way."""
        self._fewest = min(self._fewest, self._count.read())

    def kept(self) -> int:
        """Return how many more there are once the history is over, and nothing more is on its way."""
        until = time.monotonic() + self._seconds
        while (more := self._count.read() - self._fewest) > 0 and time.monotonic() < until:
            time.sleep(0.001)
        if more > 0:
            self.forget()
            self._seconds = _SECONDS_AGAIN
        return max(more, 0)

    def forget(self) -> None:
        """Take what there is now for usual: the next history is not to blame for what this one left."""
        self._fewest = self._count.read()

    def close(self) -> None:
        """Close what tells the number."""
        self._count.close()
