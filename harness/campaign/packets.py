# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Packets that are bent, sent to groups one by one: what the model expects of each, and what is observed."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from harness.campaign.difference import Difference
from harness.group.observation import observe
from harness.model.bent import Bent
from harness.model.layout import Protocol
from harness.model.outcome import ReplyKind, compared, difference
from harness.model.packets import SYN_SEQUENCE
from harness.model.reception.expected import Ports, expect
from harness.model.reception.state import Reception
from harness.wire import frames
from harness.wire.bend import bend, valid
from harness.wire.headers import ETHERNET_HEADER, IP_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.group.reuseport_group import ReuseportGroup
    from harness.model.layout import Family
    from harness.model.life.behaviour import Behaviour
    from harness.model.outcome import Outcome
    from harness.wire.veth import Wire

ASSIGNED = 1000
"""What is added to a group's port for the one at which traffic control assigns a member."""

MEMBERS = 8
"""Of each group in a slot, numbered alike. One more is in none, and the slot of its number is empty."""


class PacketDifferenceError(Difference):
    """The kernel did something else with a packet than the model."""

    def __init__(self, place: int, bent: Bent, expected: Outcome, observed: Outcome, data: tuple[bytes, ...]) -> None:
        super().__init__(f"{bent}\n{difference(expected, observed)}")
        self.place, self.bent, self.frames = place, bent, data
        self.sentence = next(part.meaning for part in compared(expected, observed) if part.differs)


class PacketRun:
    """Sends packets to a group for each protocol and family, and counts what that reached."""

    def __init__(
        self, wire: Wire, groups: Mapping[tuple[Protocol, Family], ReuseportGroup], behaviour: Behaviour
    ) -> None:
        self._wire, self._groups, self._behaviour = wire, groups, behaviour
        self._layouts = {key: group.layout for key, group in groups.items()}
        self._ports = {key: Ports(group=group.port, assigned=group.port + ASSIGNED) for key, group in groups.items()}
        self.taken: Counter[str] = Counter()
        """How often each way through the receiving kernel was taken."""
        self.results: Counter[str] = Counter()
        self.replies: Counter[str] = Counter()
        self.packets = self.frames = 0
        self.seconds = 0.0
        """Spent with packets."""

    def run(self, packets: Iterable[Bent]) -> None:
        """Send packets, each after the one before is decided; PacketDifferenceError says where the outcome differs."""
        started = time.monotonic()
        state = Reception(self._behaviour, self.taken)
        try:
            for place, bent in enumerate(packets, 1):
                self._one(state, place, bent)
        finally:
            self.seconds += time.monotonic() - started

    def _one(self, state: Reception, place: int, bent: Bent) -> None:
        key = bent.protocol, bent.family
        group, ports = self._groups[key], self._ports[key]
        port = ports.assigned if bent.assigned else ports.group
        data = tuple(bend(bent, port))
        expected = expect(state, self._layouts[key], ports, data)
        observed, _ = observe(group, lambda: self._wire.send(data))
        self.packets += 1
        self.frames += len(data)
        self._forget(state, group, bent, port, observed)
        if observed != expected:
            raise PacketDifferenceError(place, bent, expected, observed, data)
        self.results.update(result.name for result in observed.results)
        self.replies.update(f"{reply.kind} {reply.detail}".strip() for reply in observed.replies)

    def _forget(self, state: Reception, group: ReuseportGroup, bent: Bent, port: int, observed: Outcome) -> None:
        """Have the kernel forget what a packet left behind: a request, or fragments that wait for others."""
        data = [
            frame
            for reply in observed.replies
            if reply.kind is ReplyKind.SYN_ACK
            for frame in frames.reset(valid(bent, port), sequence=SYN_SEQUENCE + 1)
        ]
        if bent.fragments:
            # An empty fragment has the others of its datagram thrown away (ip_frag_queue, ip6_frag_queue).
            rest = Bent(
                protocol=bent.protocol,
                family=bent.family,
                next_header=bent.next_header,
                fragments=((8, 8, True),),
                source_port=bent.source_port,
            )
            data += bend(rest, port)
            state.queues.clear()
        if data:
            self._wire.send(data)
            group.program.new_results()


def fields_of_assigned(group: ReuseportGroup) -> list[tuple[int, int]]:
    """Return by which fields traffic control knows a frame for a group's other port: offsets, and two bytes at each."""
    shape = group.shape
    transport = ETHERNET_HEADER + IP_HEADER[shape.family]
    fields = [(12, shape.family.eth_protocol), (transport + 2, group.port + ASSIGNED)]
    if shape.protocol is Protocol.TCP:
        fields.append((transport + 12, 0x6002))  # a SYN with one word of options
    return fields
