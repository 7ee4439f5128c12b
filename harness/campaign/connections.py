# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Connections that show, after each step of a history of TCP, which listener each SYN finds.

A SYN is answered or reset. Where it is answered the handshake is completed: the listener that accepts the connection is
the one that the SYN found. Then the connection is reset, and the next step may use the port again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.campaign.probes import packet_of
from harness.model.life.fast_open import FastOpened
from harness.model.outcome import ReplyKind
from harness.model.packets import SYN_SEQUENCE
from harness.wire import frames
from harness.wire.options import FAST_OPEN, option_of

if TYPE_CHECKING:
    from collections.abc import Container

    from harness.campaign.probes import Probes
    from harness.model.life.datagram import Datagram
    from harness.model.outcome import Reply
    from harness.wire.veth import Wire


@dataclass(frozen=True, kw_only=True)
class Replies:
    """What came back to the SYNs of some probes."""

    port: int
    """The port that they were sent to."""
    syn_acks: dict[Datagram, Reply]
    refused: set[Datagram]
    """Those that were reset."""

    @property
    def data_taken(self) -> set[Datagram]:
        """Return those whose data the SYN-ACK acknowledges."""
        return {probe for probe, reply in self.syn_acks.items() if fast_opened(reply).data_taken}


def fast_opened(syn_ack: Reply) -> FastOpened:
    """Return what a SYN-ACK says of fast open."""
    return FastOpened(data_taken=syn_ack.ack != SYN_SEQUENCE + 1, cookie=option_of(syn_ack.options, FAST_OPEN))


def fast_open_differs(syn_ack: FastOpened | None, expected: FastOpened) -> str:
    """Say what a SYN-ACK, None for none, says of fast open that is not expected, or nothing."""
    if syn_ack is None:
        return "no SYN-ACK is seen"
    if syn_ack.data_taken != expected.data_taken:
        return f"the SYN's data is {'' if syn_ack.data_taken else 'not '}taken"
    if syn_ack.cookie != expected.cookie:
        seen, wanted = (made.cookie.hex() or "none" for made in (syn_ack, expected))
        return f"the fast-open cookie in the SYN-ACK is {seen}, not {wanted}"
    return ""


def send_syns(wire: Wire, probes: Probes) -> Replies:
    """Send a SYN for each probe."""
    made = Replies(port=probes.port, syn_acks={}, refused=set())
    for batch in probes.batches:
        wire.post_many(batch)
    for reply in wire.send(()):
        probe = probes.by_port.get((reply.address, reply.port))
        if probe is None:
            continue
        if reply.kind is ReplyKind.SYN_ACK:
            made.syn_acks[probe] = reply
        elif reply.kind is ReplyKind.RESET:
            made.refused.add(probe)
    return made


def send_acks(wire: Wire, replies: Replies, *, but: Container[Datagram] = (), again: bool = False) -> None:
    """Complete the handshakes, except those of `but`.

    `again`: with the SYN's data, for a program that reads the ACK.
    """
    acks: list[bytes] = []
    for probe, reply in replies.syn_acks.items():
        if probe not in but:
            packet = packet_of(probe, port=replies.port)
            acks += frames.completing(packet, reply, packet.payload if again else b"")
    wire.send(acks)


def open_all(wire: Wire, probes: Probes, *, again: bool) -> Replies:
    """Open a connection for each probe; `again` as for `send_acks`."""
    replies = send_syns(wire, probes)
    send_acks(wire, replies, again=again)
    return replies
