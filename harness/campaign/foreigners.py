# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The foreign sockets of a history on the kernel under test, which are there to be put into slots."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from harness.group.sockets import NumberedSockets, reset_on_close
from harness.model.layout import Family, Protocol
from harness.model.life.foreign import Kind

if TYPE_CHECKING:
    from harness.loader.program import Program


class Foreigners:
    """Sockets by their kind, opened when they are asked for. `close` closes them."""

    def __init__(self, protocol: Protocol, port: int, program: Program) -> None:
        """`port` is the history's; the next two are used as well. `program` makes a group of what has no other way."""
        self._protocol, self._port, self._program = protocol, port, program
        self._made: dict[Kind, socket.socket] = {}
        self._undo = ExitStack()

    def __getitem__(self, kind: Kind) -> socket.socket:
        if kind not in self._made:
            self._made[kind] = self._open(kind)
        return self._made[kind]

    def close(self) -> None:
        """Close them all."""
        self._undo.close()
        self._made.clear()

    def _open(self, kind: Kind) -> socket.socket:
        if kind is Kind.LOCAL:
            return self._undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        if kind is Kind.CONNECTION:
            return self._connect()
        port = self._port + {Kind.ANOTHER_PROTOCOL: 0, Kind.ALONE: 2}.get(kind, 1)
        sockets = NumberedSockets(port=port)
        self._undo.callback(sockets.close)
        protocol = self._protocol
        if kind is Kind.ANOTHER_PROTOCOL:
            protocol = Protocol.TCP if protocol is Protocol.UDP else Protocol.UDP
        over_ipv6 = kind is Kind.ANOTHER_FAMILY
        place = sockets.open(
            protocol,
            Family.IPV6 if over_ipv6 else Family.IPV4,
            v6only=True if over_ipv6 else None,
            reuseport=kind is not Kind.ALONE,
            bind=kind is not Kind.NOT_BOUND,
        )
        return sockets[place]

    def _connect(self) -> socket.socket:
        """Connect to a listener on any port; a program that is attached before begins a group (`reuseport_alloc`)."""
        listener, client = (
            self._undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(2)
        )
        listener.bind((Family.IPV4.server, 0))
        listener.listen()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._program.attach(client)
        client.connect(listener.getsockname())
        accepted = self._undo.enter_context(listener.accept()[0])
        for made in (client, accepted):
            reset_on_close(made)
        return client
