# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The fragments of one datagram that wait for each other: net/ipv4/inet_fragment.c. Pure."""

from __future__ import annotations

from enum import Enum


class Insertion(Enum):
    """What becomes of a fragment that is put into a queue."""

    TAKEN = "taken"
    AGAIN = "again"
    OVERLAPS = "overlaps"


class Queue:
    """`struct inet_frag_queue`: the fragments of one datagram so far.

    Neighbours that came one after the other at the end form a run; others are a run of their own.
    """

    def __init__(self) -> None:
        self.length = 0
        """The datagram's length, as far as it is known."""
        self.last_in = False
        self.header = b""
        """The first fragment's header, once it is there."""
        self._pieces: dict[int, bytes] = {}
        self._runs: list[tuple[int, int]] = []

    def reaches(self, end: int, *, more: bool) -> bool:
        """`ip_frag_queue`, `ip6_frag_queue`: note where a fragment ends; False if that contradicts the others."""
        if not more:
            if end < self.length or (self.last_in and end != self.length):
                return False
            self.last_in, self.length = True, end
        elif end > self.length:
            if self.last_in:
                return False
            self.length = end
        return True

    def insert(self, start: int, data: bytes) -> Insertion:
        """`inet_frag_queue_insert`: a fragment inside a run is one that came before; any other overlap is none."""
        end = start + len(data)
        highest = max(self._runs, default=None, key=lambda run: run[1])
        if highest is not None and highest[1] < end:
            if start < highest[1]:
                return Insertion.OVERLAPS
            if start == highest[1]:
                self._runs.remove(highest)
                self._runs.append((highest[0], end))
            else:
                self._runs.append((start, end))
        else:
            for first, last in self._runs:
                if end > first and start < last:
                    return Insertion.AGAIN if start >= first and end <= last else Insertion.OVERLAPS
            self._runs.append((start, end))
        self._pieces[start] = data
        return Insertion.TAKEN

    @property
    def complete(self) -> bool:
        """Return whether the first and the last fragment are there, and all that is between them."""
        return self.last_in and 0 in self._pieces and sum(map(len, self._pieces.values())) == self.length

    def whole(self) -> bytes:
        """Return the datagram."""
        return b"".join(data for _, data in sorted(self._pieces.items()))
