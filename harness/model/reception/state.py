# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the kernel keeps from frame to frame, and what comes of one. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from harness.model.layout import Family
    from harness.model.life.behaviour import Behaviour
    from harness.model.reception.queue import Queue


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """What reaches the transport's handler: the addresses, the protocol's number, and its bytes."""

    family: Family
    source: bytes
    destination: bytes
    protocol: int
    data: bytes
    whole: bool = True
    """Whether it came in one frame; traffic control sees frames, not what was reassembled."""


@dataclass(frozen=True)
class Lost:
    """The frame ends here, without an answer, or waits for the rest of its datagram."""


@dataclass(frozen=True)
class Refused:
    """The frame is answered by an ICMP error to its source."""

    source: bytes
    icmp_type: int
    code: int


Came = Arrived | Lost | Refused
LOST = Lost()


@dataclass
class Reception:
    """One receiver."""

    behaviour: Behaviour
    taken: Counter[str] = field(default_factory=Counter)
    """How often each way was taken, by the kernel's function."""
    queues: dict[Hashable, Queue] = field(default_factory=dict)
    """Datagrams of which fragments are missing."""

    def lose(self, way: str) -> Lost:
        """Note the way, and that the frame ended there."""
        self.taken[way] += 1
        return LOST

    def refuse(self, way: str, source: bytes, icmp_type: int, code: int) -> Refused:
        """Note the way, and answer the frame by an ICMP error."""
        self.taken[way] += 1
        return Refused(source, icmp_type, code)
