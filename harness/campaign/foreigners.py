# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The foreign sockets of a history on the kernel under test, which are there to be put into slots."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from harness.group.sockets import NumberedSockets
from harness.model.layout import Family, Protocol
from harness.model.life.foreign import Kind


class Foreigners:
    """Sockets by their kind, opened when they are asked for. `close` closes them."""

    def __init__(self, protocol: Protocol, port: int) -> None:
        """`port` is the history's; the next two are used as well."""
        self._protocol, self._port = protocol, port
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
