# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Gather what a story is made from: the kernel's records, and the names for what they only number. Pure."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.trace.events import Reading, cookie_in, drop_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names for what a kernel only numbers."""

    sockets: Mapping[int, str] = field(default_factory=dict)
    """What a case calls a socket, by its cookie."""
    drop_reasons: Mapping[int, str] = field(default_factory=dict)
    """Drop reasons of the running kernel, {} where it has none (before 5.17)."""
    functions: Mapping[int, str] = field(default_factory=dict)
    """The kernel's functions that dropped packets, by the addresses in them that the records have."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a story is made from, small enough to travel: making it costs more than a slow guest should pay."""

    records: bytes
    lost: int
    names: Names
    missing: tuple[str, ...]

    @classmethod
    def gather(
        cls,
        readings: Iterable[Reading],
        *,
        sockets: Mapping[int, str],
        drop_reasons: Mapping[int, str],
        function_at: Callable[[int], str],
        missing: tuple[str, ...],
    ) -> Evidence:
        """Return what readings show, with only those names that their story will use."""
        records: list[bytes] = []
        lost = 0
        for reading in readings:
            records += reading.records
            lost += reading.lost
        drops = {drop for record in records if (drop := drop_in(record))}
        names = Names(
            sockets={cookie: sockets[cookie] for cookie in set(map(cookie_in, records)) & sockets.keys()},
            drop_reasons={reason: drop_reasons[reason] for _, reason in drops if reason in drop_reasons},
            functions={address: function_at(address) for address, _ in drops},
        )
        return cls(records=b"".join(records), lost=lost, names=names, missing=missing)

    def pack(self) -> dict[str, Any]:
        """Return it in types that reports may carry from a worker."""
        names = self.names
        return {
            "records": base64.b64encode(self.records).decode(),
            "lost": self.lost,
            "names": [list(mapping.items()) for mapping in (names.sockets, names.drop_reasons, names.functions)],
            "missing": list(self.missing),
        }

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Evidence:
        """Return what `pack` packed."""
        sockets, drop_reasons, functions = (dict(map(tuple, items)) for items in packed["names"])
        return cls(
            records=base64.b64decode(packed["records"]),
            lost=packed["lost"],
            names=Names(sockets=sockets, drop_reasons=drop_reasons, functions=functions),
            missing=tuple(packed["missing"]),
        )
