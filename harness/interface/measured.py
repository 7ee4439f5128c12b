# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What cases measure, to be drawn in the page: a class for each kind, and their form in JSON. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How packets were spread over the members of a group."""

    kind: ClassVar[str] = "shares"

    program: str
    received: list[int]
    """Packets of each member, in the order of the members."""
    low: int
    high: int
    """The expected band: what each member should have, at least and at most."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How many clients moved when one member left, and how much the busiest member had before."""

    kind: ClassVar[str] = "moved"

    program: str
    clients: int
    members: int
    own: float
    """Of the clients of the member that left, in parts of one."""
    others: float
    """Of all other clients, in parts of one."""
    busiest: float
    """Clients of the busiest member, as a multiple of the mean."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """How long a packet takes through groups of several sizes."""

    kind: ClassVar[str] = "cost"

    what: str
    members: list[int]
    microseconds: list[float]
    """From the sender to the socket, for each of `members`."""


Measured = Shares | Moved | Cost

KINDS: dict[str, type[Measured]] = {kind.kind: kind for kind in get_args(Measured)}


def measured_to_json(measured: Measured) -> dict[str, Any]:
    """Return what was measured as a JSON object."""
    return {"kind": measured.kind, **asdict(measured)}


def measured_from_json(data: Mapping[str, Any]) -> Measured:
    """Return what `measured_to_json` turned into `data`. Raises ValueError for anything else."""
    try:
        kind = KINDS[data["kind"]]
        return kind(**{field.name: data[field.name] for field in fields(kind)})
    except (KeyError, TypeError) as error:
        raise ValueError(f"no measurement: {error!r}") from error
