# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Connections whose ACK comes in a step of its own: a history's segments, sent one by one, and what they lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.campaign import connections, probes
from harness.model.layout import Protocol
from harness.model.life import segments
from harness.model.life.fast_open import FastOpened, Given
from harness.model.outcome import ReplyKind
from harness.model.packets import SYN_SEQUENCE
from harness.model.uapi import TCP_RST
from harness.wire import frames

if TYPE_CHECKING:
    from harness.campaign.puppets import Puppets
    from harness.model.life.datagram import Datagram
    from harness.model.life.state import Seen
    from harness.model.outcome import Reply
    from harness.wire.veth import Wire


class Asking:
    """The connections of one history between their SYN and their ACK. `close` has the kernel forget them."""

    def __init__(self, wire: Wire, port: int) -> None:
        self._wire, self._port = wire, port
        self._syn_acks: dict[Datagram, Reply] = {}

    def differs(self, step: segments.Segment, probe: Datagram, expected: Seen, puppets: Puppets) -> str:
        """Send a step's segment, of a probe's connection; say what it leads to that is not expected, or nothing."""
        replies = [reply for reply in self._wire.send(self._frames(step, probe)) if reply.port == probe.source_port]
        kinds = [reply.kind for reply in replies]
        if kinds != ([] if expected.reply is None else [expected.reply]):
            return f"it is answered by {', '.join(kinds) or 'nothing'}, not by {expected.reply or 'nothing'}"
        if isinstance(step, segments.Ask) and expected.reply is ReplyKind.SYN_ACK:
            (self._syn_acks[probe],) = replies
            wanted = FastOpened(data_taken=expected.data_taken, cookie=expected.cookie)
            if sentence := connections.fast_open_differs(connections.fast_opened(replies[0]), wanted):
                return sentence
        accepted = puppets.accepted()
        holders = accepted.pop((probe.family, probe.source_port), [])
        if accepted:
            return f"connections that nobody opened are accepted: {accepted}"
        if len(holders) > 1 or bool(holders) != bool(expected.takers) or not expected.takers.issuperset(holders):
            return f"{holders or 'nobody'} accepts the connection, not one of {sorted(expected.takers)}"
        if not isinstance(step, segments.Ask) or holders:
            self._syn_acks.pop(probe, None)
        return ""

    def close(self) -> None:
        """Reset what is left, once the listeners are closed."""
        if self._syn_acks:
            self._wire.send(frame for probe in self._syn_acks for frame in self._reset(probe))
            self._syn_acks.clear()

    def _frames(self, step: segments.Segment, probe: Datagram) -> list[bytes]:
        packet = probes.packet_of(probe, port=self._port)
        if isinstance(step, segments.Ask):
            given = step.given if isinstance(step, segments.AskFast) else Given.NOTHING
            return [probes.frame(probe, Protocol.TCP, self._port, given)]
        if isinstance(step, segments.Answer):
            return frames.completing(packet, self._syn_acks[probe], packet.payload)
        return self._reset(probe)

    def _reset(self, probe: Datagram) -> list[bytes]:
        packet = probes.packet_of(probe, port=self._port)
        return frames.segment(packet, TCP_RST, sequence=SYN_SEQUENCE + 1, acknowledge=0)
