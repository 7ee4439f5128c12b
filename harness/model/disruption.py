# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a case measures of consistent hashing: how many clients move when a member leaves. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Disruption:
    """How many clients moved when one member left, in parts of one, and how much the busiest member had."""

    kernel: str
    program: str
    clients: int
    members: int
    own: float
    """Of the clients of the member that left."""
    others: float
    """Of all other clients."""
    busiest: float
    """Clients of the busiest member, as a multiple of the mean."""

    def __str__(self) -> str:
        return (
            f"{self.kernel}: {self.program}: one of {self.members} members leaves: of {self.clients} clients "
            f"{self.own:.2%} of its own and {self.others:.2%} of the others' move; "
            f"the busiest had {self.busiest:.2f} times the mean"
        )
