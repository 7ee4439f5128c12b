# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel's own list of sockets (sock_diag(7), what ss(8) shows), and the killing of one (ss -K).

pyroute2's DiagSocket knows TCP alone and kills nothing.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.model.layout import Family, Protocol

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21  # include/uapi/linux/sock_diag.h
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_HEADER = struct.Struct("=IHHII")
_REQUEST_V2 = struct.Struct("=BBBxI")  # struct inet_diag_req_v2, without its id
_ID = struct.Struct("!HH16s16sI8s")  # struct inet_diag_sockid; the cookie as the host has it
_ANY_STATE = 0xFFFFFFFF
_LISTEN = 1 << 10


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A socket as sock_diag lists it."""

    cookie: int
    state: int
    """The state's number in include/net/tcp_states.h; UDP has 7 for any and 1 for a connected socket."""
    id: bytes
    """Addresses, ports, device and cookie: the socket's name for sock_diag (`struct inet_diag_sockid`)."""


def listed(protocol: Protocol, family: Family, port: int) -> list[Listed]:
    """Return the sockets on a port of the present namespace, in the kernel's order; TCP: its listeners.

    A dual-stack socket is one of IPv6. Raises OSError where the kernel has no sock_diag for the protocol.
    """
    states = _LISTEN if protocol.socket_type is socket.SOCK_STREAM else _ANY_STATE
    wanted = _ID.pack(port, 0, bytes(16), bytes(16), 0, bytes(8))
    request = _REQUEST_V2.pack(family.address_family, protocol.number, 0, states) + wanted
    found = []
    for body in _ask(_SOCK_DIAG_BY_FAMILY, _REQUEST | _DUMP, request):
        name = body[4 : 4 + _ID.size]
        (own_port, *_, cookie) = _ID.unpack(name)
        if own_port == port:
            found.append(Listed(cookie=int.from_bytes(cookie, "little"), state=body[1], id=name))
    return found


def kill(protocol: Protocol, family: Family, name: bytes) -> None:
    """Kill a socket by its name of `Listed.id`, as ss -K does.

    Raises OSError: ENOENT if the lookup by that name leads to another socket or to none, EOPNOTSUPP without
    CONFIG_INET_DIAG_DESTROY.
    """
    request = _REQUEST_V2.pack(family.address_family, protocol.number, 0, _ANY_STATE) + name
    for _ in _ask(_SOCK_DESTROY, _REQUEST | _ACK, request):
        pass


def _ask(kind: int, flags: int, request: bytes) -> Iterator[bytes]:
    """Send a request; yield the bodies of the answers. Raises OSError with the errno of an answer."""
    with closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)) as link:
        link.bind((0, 0))
        link.send(_HEADER.pack(_HEADER.size + len(request), kind, flags, 1, 0) + request)
        while True:
            data = link.recv(1 << 16)
            while data:
                length, answer, *_ = _HEADER.unpack_from(data)
                body, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
                if answer == _NLMSG_ERROR:
                    (number,) = struct.unpack_from("=i", body)
                    if number:
                        raise OSError(-number, f"sock_diag: {os.strerror(-number)}")
                    return
                if answer == _NLMSG_DONE:
                    return
                yield body
