# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The second half of a TCP handshake: what the server answered to a SYN, and the ACK that completes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.model.outcome import Reply, ReplyKind
from harness.wire import frames

if TYPE_CHECKING:
    from harness.model.packets import Packet


@dataclass(frozen=True, kw_only=True)
class Handshake:
    """A connection of which the SYN was sent, and the replies to that."""

    packet: Packet
    replies: tuple[Reply, ...]

    @property
    def syn_ack(self) -> Reply | None:
        """Return the SYN-ACK, None if there was none."""
        return next((reply for reply in self.replies if reply.kind is ReplyKind.SYN_ACK), None)


def completing_ack(packet: Packet, syn_ack: Reply, payload: bytes = b"") -> list[bytes]:
    """Return the frames of the ACK that answers a SYN-ACK; ValueError if the reply acknowledges nothing."""
    if syn_ack.ack is None:
        raise ValueError(f"{syn_ack} is no answer to a SYN")
    acknowledge = (syn_ack.sequence + 1) & 0xFFFFFFFF
    return frames.ack(packet, sequence=syn_ack.ack, acknowledge=acknowledge, payload=payload)
