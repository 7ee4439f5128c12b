# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What arrives at the members of a group: datagrams, and connections with their first bytes."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from harness.group.sockets import reset_on_close
from harness.model.layout import Protocol
from harness.wire.batch import NUMBER, message_buffers

if TYPE_CHECKING:
    import socket

    from harness.group.members import Members


class Arrivals:
    """The members' sockets watched by one epoll instance, and the connections that were accepted."""

    def __init__(self, members: Members, protocol: Protocol) -> None:
        self._members, self._protocol = members, protocol
        self._member_of: dict[int, int] = {}  # by file descriptor
        self._poll = select.epoll()
        self._connections: list[socket.socket] = []
        self._ask_anew = False  # whether a member may have inherited connections that its epoll was not told of

    def add(self, member: int) -> None:
        """Watch a member that has joined."""
        fd = self._members[member].fileno()
        self._member_of[fd] = member
        self._poll.register(fd, select.EPOLLIN)

    def remove(self, member: int) -> None:
        """Stop watching a member that is about to close; others may inherit its connections."""
        fd = self._members[member].fileno()
        self._poll.unregister(fd)
        del self._member_of[fd]
        self._ask_anew = self._protocol is Protocol.TCP

    def collect(self) -> dict[int, tuple[bytes, ...]]:
        """Take what the members hold: datagrams, or for each new connection the bytes that came with it.

        A member that is not in the answer was asked and holds nothing. Connections stay open until `disconnect`.
        """
        # A socket is ready for a datagram whose checksum it finds wrong as it is read: then it holds nothing.
        return {member: held for member in sorted(self._ready()) if (held := tuple(self._take(member)))}

    def collect_numbers(self) -> dict[int, int]:
        """UDP: take what the members hold of a batch: the number in each datagram to the member that holds it.

        Raises ValueError if a number is held twice.
        """
        buffers = message_buffers(NUMBER.size)
        received: dict[int, int] = {}
        while ready := self._ready():
            for member in ready:
                numbers = buffers.receive_numbers(self._members[member])
                if not received.keys().isdisjoint(numbers):
                    raise ValueError(f"a datagram reached member {member} and, before, another or the same")
                received.update(dict.fromkeys(numbers, member))
        return received

    def disconnect(self) -> None:
        """Reset every connection that `collect` accepted."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def close(self) -> None:
        """Reset the connections and stop watching."""
        self.disconnect()
        self._member_of.clear()
        self._poll.close()

    def _ready(self) -> list[int]:
        """Return the members that have something to take."""
        if self._ask_anew:
            # Kernels with K14 do not wake the epoll of a member that inherits connections: EPOLL_CTL_MOD has it look
            # (fs/eventpoll.c `ep_modify`).
            for fd in self._member_of:
                self._poll.modify(fd, select.EPOLLIN)
            self._ask_anew = False
        return [member for fd, _ in self._poll.poll(0) if (member := self._member_of.get(fd)) is not None]

    def _take(self, member: int) -> list[bytes]:
        made = self._members[member]
        held: list[bytes] = []
        try:
            while True:
                if self._protocol is Protocol.UDP:
                    held.append(made.recv(65535))
                    continue
                connection, _ = made.accept()
                reset_on_close(connection)
                connection.setblocking(False)
                self._connections.append(connection)
                held.append(_read_now(connection))
        except BlockingIOError:
            return held


def _read_now(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65535)
    except BlockingIOError:
        return b""
