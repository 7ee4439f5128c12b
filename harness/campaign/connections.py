# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Connections that show, after each step of a history of TCP, which listener each SYN finds.

A SYN is answered or reset; the handshake is completed, and the listener that accepts it is the one. Then the
connection is reset, and the next step may use the port again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.campaign.probes import packet_of
from harness.model.outcome import ReplyKind
from harness.wire import frames

if TYPE_CHECKING:
    from harness.campaign.probes import Probes
    from harness.model.life.lookup import Datagram
    from harness.wire.veth import Wire


def open_all(wire: Wire, probes: Probes) -> set[Datagram]:
    """Open a connection for each probe; return those that were reset."""
    refused = set()
    acks: list[bytes] = []
    for reply in wire.send(frame for batch in probes.batches for frame in batch):
        probe = probes.by_port.get((reply.address, reply.port))
        if probe is None:
            continue
        if reply.kind is ReplyKind.SYN_ACK:
            acks += frames.completing(packet_of(probe), reply)
        elif reply.kind is ReplyKind.RESET:
            refused.add(probe)
    wire.send(acks)
    return refused
