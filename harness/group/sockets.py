# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Sockets that a case opens one by one, each named by its number, and what is done to a single one of them."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.group.cookies import cookie_of
from harness.loader.libc import check, libc
from harness.model.layout import Family, Protocol
from harness.model.uapi import SO_ATTACH_REUSEPORT_EBPF, SO_DETACH_REUSEPORT_BPF
from harness.wire.veth import SERVER_LINK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.group.own_program import OwnProgram
    from harness.loader.maps import Map
    from harness.loader.program import Program

_BACKLOG = 128
_PING_GROUPS = Path("/proc/sys/net/ipv4/ping_group_range")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def reset_on_close(made: socket.socket) -> None:
    """Have a TCP socket end its connection by an RST: no TIME_WAIT is left that keeps the port from the next case."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def accept_and_reset(listener: socket.socket) -> Iterator[tuple[Family, int]]:
    """Accept every connection that waits and reset it; yield its family and its peer's port.

    The listener is one that does not block. If it does not listen, or a peer has reset its connection, that is the end.
    """
    with suppress(OSError):
        while True:
            connection, (host, port, *_) = listener.accept()
            reset_on_close(connection)
            connection.close()
            yield (Family.IPV4 if "." in host else Family.IPV6), port


def disconnect(made: socket.socket) -> None:
    """Take a socket's peer away: connect() to AF_UNSPEC, which Python's own connect() cannot say. Raises OSError."""
    address = struct.pack("=H", socket.AF_UNSPEC) + bytes(26)
    check(libc.connect(made.fileno(), address, len(address)), "disconnect a socket")


@contextmanager
def socket_of(family: int, kind: int, protocol: int) -> Iterator[socket.socket]:
    """Open a socket of any kind and close it; a ping socket is allowed to this process's group while it is open.

    Without its group in net.ipv4.ping_group_range ping_init_sock() refuses it (EACCES), even to root.
    """
    before = _PING_GROUPS.read_text()
    _PING_GROUPS.write_text(f"{os.getgid()} {os.getgid()}")
    try:
        with socket.socket(family, kind, protocol) as made:
            yield made
    finally:
        _PING_GROUPS.write_text(before)


class NumberedSockets:
    """Sockets on one port of the calling thread's network namespace, named 0, 1, … in the order they were opened."""

    def __init__(self, *, port: int) -> None:
        self.port = port
        self.sockets: list[socket.socket] = []

    def __getitem__(self, number: int) -> socket.socket:
        return self.sockets[number]

    def open(
        self,
        protocol: Protocol = Protocol.UDP,
        family: Family = Family.IPV4,
        address: str | None = None,
        *,
        reuseport: bool = True,
        v6only: bool | None = None,
        device: str | None = None,
        user: int | None = None,
        bind: bool = True,
        listen: bool = True,
    ) -> int:
        """Open a socket, bind it (UDP: join) and let it listen (TCP: join); return its number.

        `address` is the wildcard unless said otherwise, `user` the one that the socket belongs to. OSError carries the
        kernel's refusal, and the socket is closed then.
        """
        with _user(user):
            made = socket.socket(family.address_family, protocol.socket_type)
        try:
            made.setblocking(False)
            if reuseport:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if v6only is not None:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
            if device is not None:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            if bind:
                made.bind((address or family.any, self.port))
                if listen and protocol is Protocol.TCP:
                    made.listen(_BACKLOG)
        except BaseException:
            made.close()
            raise
        return self.adopt(made)

    def adopt(self, made: socket.socket) -> int:
        """Take over a socket that the case made itself; return its number."""
        self.sockets.append(made)
        return len(self.sockets) - 1

    def group(
        self,
        size: int,
        protocol: Protocol = Protocol.UDP,
        family: Family = Family.IPV4,
        address: str | None = None,
        *,
        device: str | None = None,
    ) -> list[int]:
        """Open a group of that many members, on the wildcard address unless said otherwise."""
        return [self.open(protocol, family, address, device=device) for _ in range(size)]

    def bind(self, number: int, family: Family = Family.IPV4, address: str | None = None) -> None:
        """Bind a socket, to the wildcard unless said otherwise, and let it listen if it is one for TCP: it joins."""
        made = self[number]
        made.bind((address or family.any, self.port))
        if made.type == socket.SOCK_STREAM:
            made.listen(_BACKLOG)

    def close(self) -> None:
        """Close every socket; the port may be used again."""
        for made in self.sockets:
            made.close()
        self.sockets.clear()

    def set_option(self, number: int, option: int, value: int | bytes) -> None:
        """Set an option of level SOL_SOCKET; OSError carries the kernel's refusal."""
        self[number].setsockopt(socket.SOL_SOCKET, option, value)

    def attach(self, number: int, program: Program | OwnProgram | int) -> None:
        """Attach a program (or a program's file descriptor) to the group of that socket."""
        if isinstance(program, int):
            self.set_option(number, SO_ATTACH_REUSEPORT_EBPF, program)
        else:
            program.attach(self[number])

    def detach(self, number: int) -> None:
        """Detach the program from the group of that socket; OSError carries the kernel's refusal."""
        self.set_option(number, SO_DETACH_REUSEPORT_BPF, 0)

    def fill(self, inner: Map | None, numbers: Iterable[int], *, first: int = 0) -> None:
        """Put the sockets into consecutive slots of a map."""
        assert inner is not None, "the program has no inner map"
        for index, number in enumerate(numbers, first):
            inner.put(index, self[number].fileno())

    def clear_slot(self, inner: Map | None, index: int) -> None:
        """Empty one slot of a map."""
        assert inner is not None, "the program has no inner map"
        inner.remove(index)

    def cookie(self, number: int) -> int:
        """Return the socket's cookie."""
        return cookie_of(self[number])

    def join_multicast(self, number: int, group: str, family: Family) -> None:
        """Let a UDP socket receive a multicast group's datagrams from the wire."""
        index = socket.if_nametoindex(SERVER_LINK)
        if family is Family.IPV4:
            request = socket.inet_aton(group) + bytes(4) + struct.pack("=i", index)
            self[number].setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        else:
            request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("=i", index)
            self[number].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)

    def allow_fast_open(self, number: int) -> None:
        """Let a listener take data in a SYN."""
        self[number].setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, _BACKLOG)

    def disconnect(self, number: int) -> None:
        """Take a UDP socket's peer away."""
        disconnect(self[number])


@contextmanager
def _user(user: int | None) -> Iterator[None]:
    """Act as another user while a socket is made: it belongs to the user who makes it."""
    if user is None:
        yield
        return
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
