# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Sockets opened by hand, where a case is about which of them form a group, and packets that are sent to them.

A `ReuseportGroup` is many members alike; here each socket is its own.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Unpack

from harness.group.sockets import NumberedSockets, reset_on_close
from harness.model.abi import pack_command
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind
from harness.model.packets import Packet, PacketFields
from harness.wire import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from harness.model.outcome import Reply
    from harness.wire.veth import Wire

BENCH_PORT = 9000
"""Away from the groups that other cases keep."""

_FIRST_PORT = 20000
_BATCH = 100
"""Datagrams sent before the sockets are read: fewer than one receive buffer holds."""


class Bench(NumberedSockets):
    """Numbered sockets, and a wire that sends packets to their port.

    `close` closes them all; the next case may use the port again.
    """

    def __init__(self, wire: Wire, *, port: int = BENCH_PORT) -> None:
        super().__init__(port=port)
        self.wire = wire
        self._ports = count()
        self._connections: list[socket.socket] = []
        self.replies_meanwhile: list[Reply] = []
        """What the packets provoked that `sending_meanwhile` sent last."""

    def close(self) -> None:
        """Close every socket and every connection that came of them."""
        for connection in self.take_connections():
            connection.close()
        super().close()

    def packet(
        self,
        index: int = 0,
        protocol: Protocol = Protocol.UDP,
        family: Family = Family.IPV4,
        *,
        payload: bytes | None = None,
        **fields: Unpack[PacketFields],
    ) -> Packet:
        """Return a packet with a command for `index`, or a payload, from a port that was not used lately."""
        chosen: PacketFields = {
            "source_port": _FIRST_PORT + next(self._ports) % 40000,
            "destination_port": self.port,
            **fields,
        }
        content = pack_command(index) if payload is None else payload
        return Packet(protocol=protocol, family=family, payload=content, **chosen)

    def packets(
        self,
        number: int,
        index: int = 0,
        protocol: Protocol = Protocol.UDP,
        family: Family = Family.IPV4,
        *,
        payload: bytes | None = None,
        **fields: Unpack[PacketFields],
    ) -> list[Packet]:
        """Return that many packets for `index`, each from a port of its own."""
        return [self.packet(index, protocol, family, payload=payload, **fields) for _ in range(number)]

    def send_and_find(self, packet: Packet) -> int | None:
        """Send one packet; return the socket that holds it, None if none does."""
        (number,) = self.send_and_find_each([packet])
        self.wire.note("no socket has it" if number is None else f"socket {number} has it")
        return number

    def send_and_find_each(self, packets: Sequence[Packet]) -> list[int | None]:
        """Send packets from different source ports; return for each the socket that holds it, None if none does.

        A TCP connection is opened whole. Raises AssertionError if two sockets hold one packet, or other bytes.
        """
        return [number for number, _ in self.send_and_watch_each(packets)]

    def send_and_watch_each(self, packets: Sequence[Packet]) -> list[tuple[int | None, list[ReplyKind]]]:
        """Send packets as `send_and_find_each` does; return for each the socket that holds it, and what it provoked."""
        held: dict[int, list[tuple[int, bytes]]] = {packet.source_port: [] for packet in packets}
        assert len(held) == len(packets), "packets are told apart by their source ports"
        replies: dict[int, list[ReplyKind]] = {packet.source_port: [] for packet in packets}
        for start in range(0, len(packets), _BATCH):
            batch = packets[start : start + _BATCH]
            if batch[0].protocol is Protocol.UDP:
                answers = self.wire.send(frame for packet in batch for frame in frames.datagram(packet))
            else:
                answers = self.open_connections(batch)
            for reply in answers:
                replies.setdefault(reply.port, []).append(reply.kind)
            for number, port, data in self._read():
                held.setdefault(port, []).append((number, data))
        ours = {packet.source_port for packet in packets}
        strangers = {port: found for port, found in held.items() if port not in ours}
        assert not strangers, f"something else arrived: {strangers}"
        return [(_only(packet, held[packet.source_port]), replies[packet.source_port]) for packet in packets]

    def send_and_capture(self, packet: Packet) -> list[ReplyKind]:
        """Send one packet's frames (of TCP the SYN alone); return the kinds of replies."""
        return self.send_frames(frames.opening(packet))

    def send_frames(self, data: Iterable[bytes]) -> list[ReplyKind]:
        """Send frames as they are; return the kinds of replies."""
        return [reply.kind for reply in self.wire.send(data)]

    def open_connections(self, packets: Sequence[Packet]) -> list[Reply]:
        """Send a SYN for each packet and an ACK for each SYN-ACK; return the replies to both. Nothing is accepted."""
        replies = self.wire.send(frame for packet in packets for frame in frames.syn(packet))
        answers: dict[int, Reply] = {reply.port: reply for reply in replies if reply.kind is ReplyKind.SYN_ACK}
        return replies + self.wire.send(
            frame
            for packet in packets
            if (answer := answers.get(packet.source_port)) is not None
            for frame in frames.completing(packet, answer, packet.ack_payload or b"")
        )

    def send_syn(self, packet: Packet, syn: Iterable[bytes] | None = None) -> Reply:
        """Send the SYN of a connection; return the SYN-ACK. Raises AssertionError if anything else answers it.

        `syn` are its frames, where they are not those of the packet alone. Replies to other packets, such as a SYN-ACK
        that is sent again, are left out.
        """
        sent = frames.syn(packet) if syn is None else syn
        answers = [reply for reply in self.wire.send(sent) if reply.port == packet.source_port]
        assert {answer.kind for answer in answers} == {ReplyKind.SYN_ACK}, f"{packet}: answered by {answers}"
        return answers[0]

    def send_ack(self, packet: Packet, syn_ack: Reply, payload: bytes = b"") -> list[ReplyKind]:
        """Send the ACK that completes a handshake, with a payload; return the kinds of replies."""
        return self.send_frames(frames.completing(packet, syn_ack, payload))

    @contextmanager
    def sending_meanwhile(self, packets: Sequence[Packet]) -> Iterator[Callable[[], bool]]:
        """Send packets (of TCP the SYN) from another process; the function given tells whether it still sends.

        At the end all of them have been sent, and decided: `replies_meanwhile` has the replies. Raises AssertionError
        if the other process failed.
        """
        sent = [frame for packet in packets for frame in frames.opening(packet)]
        child = os.fork()
        if not child:
            status = 1
            try:
                self.wire.post(sent)
                status = 0
            finally:
                os._exit(status)
        ended: int | None = None

        def still_sending() -> bool:
            nonlocal ended
            if ended is None:
                process, status = os.waitpid(child, os.WNOHANG)
                ended = status if process else None
            return ended is None

        try:
            yield still_sending
        finally:
            if ended is None:
                _, ended = os.waitpid(child, 0)
        assert ended == 0, "the process that was to send the packets failed"
        self.replies_meanwhile = self.wire.read_replies()

    def read(self) -> dict[int, list[bytes]]:
        """Take everything that the sockets hold: a socket's number to its datagrams, b"" for each connection."""
        held: dict[int, list[bytes]] = {}
        for number, _, data in self._read():
            held.setdefault(number, []).append(data)
        return held

    def read_ports(self) -> dict[int, int]:
        """Take everything that the sockets hold; return by source port the number of the socket that held it."""
        return {port: number for number, port, _ in self._read()}

    def take_connections(self) -> list[socket.socket]:
        """Return the connections that were accepted since the last call; the caller closes them."""
        taken, self._connections = self._connections, []
        return taken

    def reset_connections(self) -> None:
        """Reset the connections that were accepted; the next ones may come from the same ports."""
        for connection in self.take_connections():
            connection.close()
        self.wire.read_replies()

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
                        reset_on_close(connection)
                        self._connections.append(connection)
                        data = b""
                    yield number, peer[1], data
            except BlockingIOError:
                pass
            except OSError as error:
                if datagrams or error.errno != errno.EINVAL:  # of a socket that does not listen
                    raise


def _only(packet: Packet, found: list[tuple[int, bytes]]) -> int | None:
    if not found:
        return None
    assert len(found) == 1, f"{packet}: held by sockets {[number for number, _ in found]}"
    ((number, data),) = found
    if packet.protocol is Protocol.UDP:
        assert data == packet.payload, f"{packet}: socket {number} holds {data.hex(' ')}"
    return number
