# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Carry out a rolling restart on the bench: real sockets, real programs, and a packet of every client at each step."""

from __future__ import annotations

import hashlib
import socket
import struct
from contextlib import closing
from typing import TYPE_CHECKING

from harness.group.steering import KNOWN
from harness.model.layout import Protocol as Transport
from harness.model.restart import Leaving, Pending, Plan, Reattach, Record, Sent, Strategy, senders

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.group.bench import Bench
    from harness.group.steering import Steering
    from harness.model.packets import Packet

FIRST_CLIENT_PORT = 30000
FIRST_PENDING_PORT = 40000
_MIGRATE = "net/ipv4/tcp_migrate_req"


def new_payload(client: int) -> bytes:
    """Return the payload of a client that no member knows yet: a long header of QUIC with an ID that it drew itself."""
    drawn = hashlib.sha256(client.to_bytes(4, "big")).digest()[:8]
    return bytes([0xC0, 0, 0, 0, 1, len(drawn)]) + drawn + bytes(6)


def known_payload(number: int) -> bytes:
    """Return the payload of a client that the member of that number knows: a short header, and the number."""
    return bytes([KNOWN, number]) + bytes(14)


def template(text: str) -> Callable[[int], bytes]:
    """Return what makes payloads of a known client from hexadecimal digits, with S in the place of the number's.

    Raises ValueError for a text that has other characters, no S, or an odd number of digits.
    """
    digits = "".join(text.split())
    width = digits.count("S")
    if not width or "S" * width not in digits:
        raise ValueError(f"{text!r} has no row of S in the place of a member's number: 40SS, 40SSSSSSSS")
    bytes.fromhex(digits.replace("S", "0"))

    def make(number: int) -> bytes:
        return bytes.fromhex(digits.replace("S" * width, f"{number:0{width}x}"))

    return make


class Restart:
    """One restart on the bench, whose port no other socket has; `run` carries it out.

    `known` makes the payload of a client from the number of the member that knows it. `told` is given each step's name
    as it begins.
    """

    def __init__(
        self,
        bench: Bench,
        plan: Plan,
        steered: Steering,
        *,
        known: Callable[[int], bytes] = known_payload,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._bench, self._plan, self._steered = bench, plan, steered
        self._known, self._told = known, told
        self._number: dict[int, int] = {}  # of a member's socket on the bench
        self._handed: dict[int, socket.socket] = {}  # A's copies of sockets that B has
        self._owner: dict[int, int | None] = {}
        self._record = Record(plan=plan)

    def run(self) -> Record:
        """Carry it out; return what became of it. All sockets are closed by then."""
        plan, settings = self._plan, self._bench.wire.settings
        steps = iter(plan.steps)
        try:
            if plan.migrate:
                settings.set(_MIGRATE, 1)
            self._told(next(steps))
            for member in range(plan.old):
                self._join(member)
                if member == 0:
                    self._steered.attach(self._socket(0))
            self._send(0)
            self._told(next(steps))
            if plan.strategy is Strategy.HANDOVER:
                self._hand_over()
            else:
                self._join_new()
            self._send(1)
            for member, step in enumerate(steps):
                self._told(step)
                self._leave(member)
                self._send(2 + member)
        finally:
            for each in self._handed.values():
                each.close()
            self._bench.close()
            if plan.migrate:
                settings.set(_MIGRATE, 0)
        return self._record

    def _socket(self, member: int) -> socket.socket:
        return self._bench[self._number[member]]

    def _member(self, number: int) -> int:
        """Return the member that reads a socket of the bench: the one that has had it last."""
        return max(member for member, has in self._number.items() if has == number)

    def _join(self, member: int) -> None:
        self._number[member] = self._bench.open(self._plan.protocol, self._plan.family)
        self._steered.put(member, self._socket(member).fileno())

    def _join_new(self) -> None:
        plan = self._plan
        times = {Reattach.BEFORE: 0, Reattach.BETWEEN: plan.joining // 2, Reattach.AFTER: plan.joining}
        for count in range(plan.joining + 1):
            if times.get(plan.reattach) == count:
                self._steered.attach(self._socket(plan.old + count - 1 if count else 0))
            if count < plan.joining:
                self._join(plan.old + count)

    def _hand_over(self) -> None:
        """Send A's sockets through a Unix socket, as processes do; A keeps its copies until it leaves, unread."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with closing(ours), closing(theirs):
            for member in range(self._plan.old):
                number, given = self._number[member], self._socket(member)
                socket.send_fds(ours, [b"a socket"], [given.fileno()])
                _, received, _, _ = socket.recv_fds(theirs, 16, 1)
                taken = socket.socket(fileno=received[0])
                taken.setblocking(False)
                self._handed[member], self._bench.sockets[number] = given, taken
                self._number[self._plan.old + member] = number

    def _leave(self, member: int) -> None:
        if self._plan.strategy is Strategy.HANDOVER:
            self._handed.pop(member).close()
            return
        waiting = self._fill_backlog(member) if self._plan.protocol is Transport.TCP else {}
        if self._plan.leaving is Leaving.SHUTDOWN:
            self._socket(member).shutdown(socket.SHUT_RD)
        else:
            self._socket(member).close()
        self._bench.wire.send([])
        held = self._bench.read_ports()
        self._reset_connections()
        for port, client in waiting.items():
            receiver = self._member(held[port]) if port in held else None
            self._record.pending.append(Pending(client=client, left=member, receiver=receiver))

    def _fill_backlog(self, member: int) -> dict[int, int]:
        """Open a connection for each client and accept none; return those that wait at the member: port to client."""
        waiting = {}
        for client in self._owner:
            before = _backlog(self._socket(member))
            packet = self._packet(client, port=FIRST_PENDING_PORT + client)
            self._bench.open_connections([packet])
            if _backlog(self._socket(member)) > before:
                waiting[packet.source_port] = client
        return waiting

    def _send(self, step: int) -> None:
        clients = senders(self._plan, step)
        starting = [client for client in clients if client not in self._owner]
        for client, receiver in self._receivers(starting):
            self._owner[client] = receiver
            self._record.sent.append(Sent(step=step, client=client, first=True, receiver=receiver))
        for client, receiver in self._receivers(clients):
            self._record.sent.append(Sent(step=step, client=client, first=False, receiver=receiver))

    def _receivers(self, clients: Sequence[int]) -> list[tuple[int, int | None]]:
        packets = [self._packet(client) for client in clients]
        if not packets:
            return []
        found = self._bench.send_and_find_each(packets)
        self._reset_connections()
        members = [None if number is None else self._member(number) for number in found]
        return list(zip(clients, members, strict=True))

    def _packet(self, client: int, *, port: int | None = None) -> Packet:
        owner = self._owner.get(client)
        content = new_payload(client) if owner is None else self._known(owner)
        source_port = port or FIRST_CLIENT_PORT + client
        return self._bench.packet(0, self._plan.protocol, self._plan.family, payload=content, source_port=source_port)

    def _reset_connections(self) -> None:
        """End what was accepted, so that the next connection may come from the same ports."""
        for connection in self._bench.take_connections():
            connection.close()
        self._bench.wire.send([])


def _backlog(listener: socket.socket) -> int:
    """Return how many connections wait to be accepted: tcpi_unacked of a listener (`tcp_get_info`, net/ipv4/tcp.c)."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int(struct.unpack_from("=I", info, 24)[0])
