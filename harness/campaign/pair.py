# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Two histories that are lived through at once, as a value; and how a seed makes such."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.campaign.table import BYTES, numbers_of, step_of
from harness.model.layout import Protocol
from harness.model.life.segments import Cookies, Migrate, NeedCookie, Segment
from harness.model.life.steps import Close, Crowd, Leave

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.model.life.steps import Step


_FOR_ALL = (Cookies, Migrate, NeedCookie)
"""Settings of TCP, which are the whole namespace's."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A history, and one that is lived through again and again beside it."""

    first: tuple[Step, ...]
    second: tuple[Step, ...]
    protocols: tuple[Protocol, Protocol] = (Protocol.UDP, Protocol.UDP)
    """Of the first and of the second; on one port both have the same."""
    ports: int = 1
    """Whether both are about one port, or each about a port of its own: then the model holds for both."""


def drawn(seed: str, protocols: tuple[Protocol, Protocol], *, crowds: bool) -> tuple[list[int], list[int]]:
    """Return the numbers of the steps of two histories that change nothing for the whole machine: no setting of TCP.

    `crowds`: they may open a crowd of sockets, which takes long.
    """
    source = random.Random(seed)  # not for secrets
    left_out = _FOR_ALL if crowds else (*_FOR_ALL, Crowd)
    first, second = (
        [
            number
            for number in numbers_of(source.randbytes(BYTES), protocol)
            if not isinstance(step_of(number, protocol), left_out)
        ]
        for protocol in protocols
    )
    return first, second


def without_packets(history: Iterable[Step]) -> tuple[Step, ...]:
    """Return the history without what takes the wire, which the other one uses."""
    quiet = (Close(step.socket) if isinstance(step, Leave) else step for step in history)
    return tuple(step for step in quiet if not isinstance(step, Segment))


def pair_of(numbers: tuple[Iterable[int], Iterable[int]], protocols: tuple[Protocol, Protocol], ports: int) -> Pair:
    """Return the pair of which these are the numbers of the steps."""
    first, second = (
        tuple(step_of(number, protocol) for number in part) for part, protocol in zip(numbers, protocols, strict=True)
    )
    return Pair(
        first=without_packets(first) if ports == 1 else first,
        second=without_packets(second),
        protocols=protocols,
        ports=ports,
    )
