# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Packets to a port whose sockets no model knows: nothing is expected of one of them, and some things of all."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from harness.campaign.probes import payload
from harness.group.netstat import counter
from harness.model.layout import Family, Protocol
from harness.model.life.slots import SLOTS
from harness.model.outcome import ReplyKind
from harness.model.packets import SYN_SEQUENCE, Packet
from harness.wire import frames

if TYPE_CHECKING:
    import random
    from collections import Counter

    from harness.model.outcome import Reply
    from harness.wire.veth import Wire

_AT_ONCE = 12
_FIRST_PORT, _PORTS = 30000, 30000
"""Their source ports, which are no peer's of a history; each is used once in a while."""

_NO_PORTS = ("UdpNoPorts", "Udp6NoPorts")
_TIME_WAIT = "06"


class Strangers:
    """Packets from one port after the other. A packet is known by its source port."""

    def __init__(self, wire: Wire, protocol: Protocol, port: int, source: random.Random) -> None:
        self._wire, self._protocol, self._port, self._source = wire, protocol, port, source
        self._next = count(source.randrange(_PORTS))
        self._first: dict[int, ReplyKind] = {}  # the kind of the first reply to each that has one
        self._sent: dict[int, Packet] = {}
        self._errors = 0
        self.frames: list[bytes] = []
        """Of the packet that `differs` speaks of, if it is about one."""
        self._before = self._no_ports()

    @property
    def sent(self) -> int:
        """Return how many were sent."""
        return len(self._sent)

    def send(self) -> None:
        """Send some; a connection is opened whole where the SYN is answered."""
        made = [self._packet() for _ in range(_AT_ONCE)]
        self._sent.update({packet.source_port: packet for packet in made})
        replies = self._note(self._wire.send(frame for packet in made for frame in frames.opening(packet)))
        acks = [
            frame
            for reply in replies
            if reply.kind is ReplyKind.SYN_ACK
            for frame in frames.completing(self._sent[reply.port], reply, self._sent[reply.port].payload)
        ]
        if acks:
            self._note(self._wire.send(acks))

    def differs(self, held: Counter[int]) -> str:
        """Return what is wrong, "" if nothing, once all sockets are closed; `held` counts a port's packet's holders."""
        self._note(self._wire.send(()))
        answered = (ReplyKind.RESET, ReplyKind.PORT_UNREACHABLE)
        for port, times in held.items():
            if port not in self._sent:
                return f"a packet from port {port}, which was not sent, is held"
            packet, first = self._sent[port], self._first.get(port)
            if times > 1 or first in answered:
                self.frames = frames.opening(packet)
                return f"{packet} is held" + (
                    f" {times} times" if times > 1 else f", though it was answered by {first}"
                )
        counted = self._no_ports() - self._before
        if counted != self._errors:
            return f"{self._errors} datagrams were answered by an error, and the kernel counts {counted}"
        if self._protocol is Protocol.TCP:
            # A connection that was accepted is reset by now, and a request whose ACK was lost is so here.
            ends = [frames.reset(packet, sequence=SYN_SEQUENCE + 1) for packet in self._sent.values()]
            self._wire.send(frame for each in ends for frame in each)
        if left := self._left():
            return f"all sockets are closed, and the port is still used:\n{left}"
        return ""

    def _packet(self) -> Packet:
        port = _FIRST_PORT + next(self._next) % _PORTS
        return Packet(
            protocol=self._protocol,
            family=self._source.choice(list(Family)),
            source_port=port,
            destination_port=self._port,
            payload=payload(self._source.randrange(SLOTS), port),
        )

    def _note(self, replies: list[Reply]) -> list[Reply]:
        """Take note of replies; return those that are the first to a packet."""
        ours = [reply for reply in replies if reply.port in self._sent]
        self._errors += sum(reply.kind is ReplyKind.PORT_UNREACHABLE for reply in ours)
        first = [reply for reply in ours if reply.port not in self._first]
        for reply in first:
            self._first.setdefault(reply.port, reply.kind)
        return first

    def _no_ports(self) -> int:
        return sum(counter(name) for name in _NO_PORTS) if self._protocol is Protocol.UDP else 0

    def _left(self) -> str:
        """Return the lines of what is on the port still, without connections in TIME_WAIT."""
        ending = f":{self._port:04X}"
        kept = []
        for suffix in ("", "6"):
            lines = Path(f"/proc/thread-self/net/{self._protocol}{suffix}").read_text().splitlines()[1:]
            kept += [line for line in lines if line.split()[1].endswith(ending) and line.split()[3] != _TIME_WAIT]
        return "\n".join(kept)
