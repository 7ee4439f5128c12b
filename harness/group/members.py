# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The members of one group: their sockets, their cookies, and their order in the kernel's array."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from harness.group.cookies import cookie_of
from harness.model.layout import GROUP_PORT, Protocol

if TYPE_CHECKING:
    from harness.group.cookies import SocketNames
    from harness.model.layout import Shape

_FAST_OPEN_QUEUE = 128
_BACKLOG = 128


class Members:
    """The sockets of one group, each named by the number that it joined with; `names` gets the name of each."""

    def __init__(self, shape: Shape, *, port: int, names: SocketNames) -> None:
        self._shape, self._port, self._names = shape, port, names
        self._sockets: dict[int, socket.socket] = {}
        self._cookies: dict[int, int] = {}
        self.order: list[int] = []
        """The members as they stand in the kernel's array."""

    def __getitem__(self, member: int) -> socket.socket:
        return self._sockets[member]

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Return every member's socket."""
        return tuple(self._sockets.values())

    @property
    def first(self) -> socket.socket:
        """Return the socket of the member that stands first."""
        return self._sockets[self.order[0]]

    def join(self, member: int) -> socket.socket:
        """Create a member and return its socket; UDP joins the group as it binds, TCP as it listens."""
        shape = self._shape
        made = socket.socket(shape.family.address_family, shape.protocol.socket_type)
        self._sockets[member] = made
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setblocking(False)
        made.bind((shape.address, self._port))
        if shape.protocol is Protocol.TCP:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, _FAST_OPEN_QUEUE)
            made.listen(_BACKLOG)
        of_port = "" if self._port == GROUP_PORT else f" of port {self._port}"
        self._names[self.cookie(member)] = f"member {member}{of_port}"
        self.order.append(member)
        return made

    def leave(self, member: int) -> None:
        """Close a member; the last one takes its place in the order (`__reuseport_detach_sock`)."""
        self._cookies.pop(member, None)
        self._sockets.pop(member).close()
        place, last = self.order.index(member), self.order.pop()
        if last != member:
            self.order[place] = last

    def cookie(self, member: int) -> int:
        """Return a member's socket cookie."""
        if member not in self._cookies:
            self._cookies[member] = cookie_of(self._sockets[member])
        return self._cookies[member]

    def close(self) -> None:
        """Close every socket."""
        for made in self._sockets.values():
            made.close()
        self._sockets.clear()
