# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A packet to the port of a history: a datagram, or a SYN. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.model.layout import Family


@dataclass(frozen=True, eq=False, slots=True)
class Datagram:
    """A datagram to the port, from a host of a family; its payload names an index. They are compared by identity."""

    family: Family
    source_port: int
    index: int
    from_peer: bool = True
    """Whether it comes from the host that sockets connect to."""
