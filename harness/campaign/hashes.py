# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is known of the kernel's hash of a four-tuple: its key is a secret, but each answer narrows the hash down."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from harness.model.life.listening import lookup as lookup_of
from harness.model.life.requests import is_silent, note_silence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.model.abi import Result
    from harness.model.layout import Family
    from harness.model.life.datagram import Datagram
    from harness.model.life.state import Socket, World

_END = 1 << 32
_NOT_KNOWN = -1
"""In the place of a socket's number: it was not observed which one holds the packet."""
SILENT = -2
"""In the place of a socket's number: the one that is found drops the packet without an answer."""
_UNKNOWN = [(0, _END - 1), (0, _END - 1)]


class Hashes:
    """For each four-tuple the spans in which its two hashes must be, by the answers so far."""

    def __init__(self) -> None:
        self.totals: list[Counter[Result]] = [Counter()]
        """What programs may have counted in the lookups that were checked: one total, unless the answers leave more."""
        self._spans: dict[tuple[Family, bool, int], list[tuple[int, int]]] = {}

    def count(self, results: Iterable[Result]) -> None:
        """Add what programs count, whatever the hash is."""
        self._count([tuple(results)])

    def forget_totals(self) -> None:
        """Begin to count anew."""
        self.totals = [Counter()]

    def lowest(self, probe: Datagram) -> tuple[int, int]:
        """Return the lowest hashes that a packet may have: they find what the last answer to it was."""
        known = self._spans.get(_four_tuple(probe), _UNKNOWN)
        return known[0][0], known[1][0]

    def check(self, world: World, probe: Datagram, observed: int | None) -> set[int | None]:
        """Return the sockets that may hold the probe; where the observed one may, only its hashes are left."""
        return self._answers(world, probe, observed, counted=True)

    def possible(self, world: World, probe: Datagram, *, counted: bool = False) -> set[int | None]:
        """Return the sockets that may hold the probe, where it is not known which one does.

        `counted`: it is sent, and programs count it.
        """
        return self._answers(world, probe, _NOT_KNOWN, counted=counted)

    def _answers(self, world: World, probe: Datagram, observed: int | None, *, counted: bool) -> set[int | None]:
        known = self._spans.get(_four_tuple(probe), _UNKNOWN)
        lowest = self.lowest(probe)
        lookup = lookup_of(world, probe, lowest)
        found = lookup.receiver()
        which = lookup.specific
        parts = _cut(frozenset(lookup.sizes), *known[which])
        answers = {lowest[which]: _number(world, found)}
        results = {lowest[which]: lookup.results}
        for start, _ in parts[1:]:
            other = lookup_of(world, probe, (lowest[0], start) if which else (start, lowest[1]))
            answers[start] = _number(world, other.receiver())
            results[start] = other.results
        left = [part for part in parts if answers[part[0]] == observed]
        if left and len(parts) > 1:
            changed = list(known)
            changed[which] = left[0][0], left[-1][1]
            self._spans[_four_tuple(probe)] = changed
        if counted:
            starts = [start for start, _ in left or parts]
            self._count([results[start] * _times(world, answers[start]) for start in starts])
            if found is not None and answers[lowest[which]] == SILENT:
                note_silence(world, found)
        return set(answers.values())

    def _count(self, possible: Iterable[tuple[Result, ...]]) -> None:
        """Add one of several results: a group with connections may run its program again, for a better member.

        `udp4_lib_lookup2` goes on with the score of the member that the hash selected.
        """
        added = {tuple(sorted(results)) for results in possible}
        totals = [total + Counter(results) for total in self.totals for results in added]
        self.totals = [total for place, total in enumerate(totals) if total not in totals[:place]]


def _four_tuple(probe: Datagram) -> tuple[Family, bool, int]:
    """Return what of a packet its hash is of: the index that it names is not."""
    return probe.family, probe.from_peer, probe.source_port


def _times(world: World, answer: int | None) -> int:
    """Return how often a lookup is done: a cookie's ACK is looked up as its SYN was, if that was answered."""
    return 2 if world.cookies and answer not in (None, SILENT) else 1


def _cut(sizes: frozenset[int], low: int, high: int) -> list[tuple[int, int]]:
    """Return the parts of a span within which all hashes fall on the same places in groups of those sizes."""
    starts = _starts(sizes)
    inside = [low, *starts[bisect_right(starts, low) : bisect_right(starts, high)]]
    return list(zip(inside, [start - 1 for start in inside[1:]] + [high], strict=True))


@cache
def _starts(sizes: frozenset[int]) -> list[int]:
    """Return the first hash that falls on each place of groups of those sizes: ceil(place * 2^32 / size)."""
    return sorted({-(-place * _END // size) for size in sizes for place in range(size)})


def _number(world: World, socket: Socket | None) -> int | None:
    if socket is None:
        return None
    return SILENT if is_silent(world, socket) else socket.number
