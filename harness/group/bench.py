# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Open sockets by hand, where a case is about which of them form a group, and ask who receives what.

A `ReuseportGroup` is many members alike; here each socket is its own. They are named 0, 1, … in the order they were
opened.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from harness.group.socket_names import cookie_of
from harness.loader.libc import check, libc
from harness.model.abi import pack_command
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind
from harness.model.packets import Packet
from harness.model.uapi import SO_ATTACH_REUSEPORT_EBPF, SO_DETACH_REUSEPORT_BPF
from harness.wire import frames
from harness.wire.veth import SERVER_LINK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from harness.loader.maps import Map
    from harness.loader.program import Program
    from harness.model.outcome import Reply
    from harness.wire.veth import Wire

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER: no TIME_WAIT is left that would keep the port from the next case."""
BENCH_PORT = 9000
"""Away from the groups that other cases keep."""

_FIRST_PORT = 20000
_BATCH = 100
"""Datagrams sent before the sockets are read: fewer than one receive buffer holds."""


class Bench:
    """Own sockets in the calling thread's network namespace, and send packets to their port.

    `close` closes them all; the next case may use the port again.
    """

    def __init__(self, wire: Wire, *, port: int = BENCH_PORT) -> None:
        self.port = port
        self.wire = wire
        self.sockets: list[socket.socket] = []
        self._ports = count()
        self._kept: list[socket.socket] = []

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

        `address` is the wildcard unless said otherwise, `user` whom the socket belongs to. OSError carries the
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
                    made.listen(128)
        except BaseException:
            made.close()
            raise
        return self.adopt(made)

    def adopt(self, made: socket.socket) -> int:
        """Take over a socket that the case made itself; return its number."""
        self.sockets.append(made)
        return len(self.sockets) - 1

    def group(self, size: int, protocol: Protocol = Protocol.UDP, family: Family = Family.IPV4) -> list[int]:
        """Open a group of that many members on the wildcard address."""
        return [self.open(protocol, family) for _ in range(size)]

    def __getitem__(self, number: int) -> socket.socket:
        return self.sockets[number]

    def close(self) -> None:
        """Close every socket and every connection that came of them."""
        for each in (*self._kept, *self.sockets):
            each.close()
        self.sockets.clear()
        self._kept.clear()

    def attach(self, number: int, program: Program | int) -> None:
        """Attach a program (or a program's file descriptor) to the group of that socket."""
        fd = program if isinstance(program, int) else program.fd
        self[number].setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, fd)

    def detach(self, number: int) -> None:
        """Detach the program from the group of that socket; OSError carries the kernel's refusal."""
        self[number].setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)

    def fill(self, inner: Map | None, numbers: Iterable[int], *, first: int = 0) -> None:
        """Put the sockets into consecutive slots of a map."""
        assert inner is not None, "the program has an inner map"
        for index, number in enumerate(numbers, first):
            inner.update(struct.pack("=I", index), struct.pack("=Q", self[number].fileno()))

    def empty(self, inner: Map | None, index: int) -> None:
        """Empty one slot of a map."""
        assert inner is not None, "the program has an inner map"
        inner.delete(struct.pack("=I", index))

    def cookie(self, number: int) -> int:
        """Return the socket's cookie."""
        return cookie_of(self[number])

    def packet(
        self, index: int = 0, protocol: Protocol = Protocol.UDP, family: Family = Family.IPV4, **changes: object
    ) -> Packet:
        """Return a packet with a command for `index`, from a port that this bench has not used lately."""
        fields: dict[str, object] = {
            "protocol": protocol,
            "family": family,
            "source_port": _FIRST_PORT + next(self._ports) % 40000,
            "destination_port": self.port,
            "payload": pack_command(index),
            **changes,
        }
        return Packet(**fields)  # type: ignore[arg-type]  # Packet checks the names itself

    def packets(
        self,
        number: int,
        index: int = 0,
        protocol: Protocol = Protocol.UDP,
        family: Family = Family.IPV4,
        **changes: object,
    ) -> list[Packet]:
        """Return that many packets for `index`, each from a port of its own."""
        return [self.packet(index, protocol, family, **changes) for _ in range(number)]

    def send_and_find(self, packet: Packet) -> int | None:
        """Send one packet; return the socket that holds it, None if none does."""
        (number,) = self.send_and_find_each([packet])
        return number

    def send_and_find_each(self, packets: Sequence[Packet]) -> list[int | None]:
        """Send packets from different source ports; return for each the socket that holds it, None if none does.

        A TCP connection is opened whole. Raises AssertionError if two sockets hold one packet, or other bytes.
        """
        held: dict[int, list[tuple[int, bytes]]] = {packet.source_port: [] for packet in packets}
        assert len(held) == len(packets), "packets are told apart by their source ports"
        for start in range(0, len(packets), _BATCH):
            batch = packets[start : start + _BATCH]
            if batch[0].protocol is Protocol.UDP:
                self.wire.send(frame for packet in batch for frame in frames.datagram(packet))
            else:
                self.connect(batch)
            for number, port, data in self._read():
                held.setdefault(port, []).append((number, data))
        ours = {packet.source_port for packet in packets}
        strangers = {port: found for port, found in held.items() if port not in ours}
        assert not strangers, f"something else arrived: {strangers}"
        return [_only(packet, held[packet.source_port]) for packet in packets]

    def send_and_capture(self, packet: Packet) -> list[ReplyKind]:
        """Send one packet's frames (of TCP the SYN alone); return the kinds of replies."""
        return [reply.kind for reply in self.wire.send(frames.opening(packet))]

    def join_multicast(self, number: int, group: str, family: Family) -> None:
        """Let a UDP socket hear a multicast group on the wire."""
        index = socket.if_nametoindex(SERVER_LINK)
        if family is Family.IPV4:
            request = socket.inet_aton(group) + bytes(4) + struct.pack("=i", index)
            self[number].setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        else:
            request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("=i", index)
            self[number].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)

    def allow_fast_open(self, number: int) -> None:
        """Let a listener take data in a SYN."""
        self[number].setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 128)

    def disconnect(self, number: int) -> None:
        """Take a UDP socket's peer away: connect() to AF_UNSPEC, which Python's own connect() cannot say."""
        address = struct.pack("=H", socket.AF_UNSPEC) + bytes(26)
        check(libc.connect(self[number].fileno(), address, len(address)), "disconnect a socket")

    @contextmanager
    def stream(self, packets: Sequence[Packet]) -> Iterator[Callable[[], bool]]:
        """Send datagrams from another process for a while; the function given tells whether it is still at it.

        At the end all of them have been sent, and decided.
        """
        sent = [frame for packet in packets for frame in frames.datagram(packet)]
        child = os.fork()
        if not child:
            try:
                self.wire.post(sent)
            finally:
                os._exit(0)
        gone = False

        def going() -> bool:
            nonlocal gone
            gone = gone or os.waitpid(child, os.WNOHANG) != (0, 0)
            return not gone

        try:
            yield going
        finally:
            if not gone:
                os.waitpid(child, 0)
        self.wire.send([])

    def read(self) -> dict[int, list[bytes]]:
        """Take everything that the sockets hold."""
        held: dict[int, list[bytes]] = {}
        for number, _, data in self._read():
            held.setdefault(number, []).append(data)
        return held

    def take_connections(self) -> list[socket.socket]:
        """Return the connections that were accepted since the last call; the caller closes them."""
        taken, self._kept = self._kept, []
        return taken

    def connect(self, packets: Sequence[Packet]) -> None:
        """Open a TCP connection for each packet, as far as the server lets; nobody has accepted it yet."""
        replies = self.wire.send(frame for packet in packets for frame in frames.syn(packet))
        answers: dict[int, Reply] = {reply.port: reply for reply in replies if reply.kind is ReplyKind.SYN_ACK}
        self.wire.send(
            frame
            for packet in packets
            if (answer := answers.get(packet.source_port)) is not None
            for frame in frames.completing(packet, answer, packet.ack_payload or b"")
        )

    def _read(self) -> Iterator[tuple[int, int, bytes]]:
        for number, each in enumerate(self.sockets):
            if each.fileno() < 0:
                continue
            datagrams = each.type == socket.SOCK_DGRAM
            try:
                while True:
                    if datagrams:
                        data, peer = each.recvfrom(65535)
                    else:
                        connection, peer = each.accept()
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                        self._kept.append(connection)
                        data = b""
                    yield number, peer[1], data
            except OSError as error:
                if not isinstance(error, BlockingIOError) and datagrams:
                    raise


def _only(packet: Packet, found: list[tuple[int, bytes]]) -> int | None:
    if not found:
        return None
    assert len(found) == 1, f"{packet}: held by sockets {[number for number, _ in found]}"
    ((number, data),) = found
    if packet.protocol is Protocol.UDP:
        assert data == packet.payload, f"{packet}: socket {number} holds {data.hex(' ')}"
    return number


@contextmanager
def _user(user: int | None) -> Iterator[None]:
    """Be another user for as long as it takes to make a socket: it belongs to who made it."""
    if user is None:
        yield
        return
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
