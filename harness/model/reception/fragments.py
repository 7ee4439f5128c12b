# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Reassembly: net/ipv4/ip_fragment.c `ip_frag_queue`, net/ipv6/reassembly.c `ip6_frag_queue`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.model.reception.queue import Insertion, Queue

if TYPE_CHECKING:
    from collections.abc import Hashable

    from harness.model.reception.state import Reception


def collect(
    state: Reception, key: Hashable, start: int, data: bytes, *, more: bool, header: bytes
) -> tuple[bytes, bytes] | None:
    """Take a fragment; return the first one's header and the whole datagram, or None as long as it is not complete.

    A fragment that contradicts the others takes all of them along (`inet_frag_kill`).
    """
    queue = state.queues.setdefault(key, Queue())
    if not queue.reaches(start + len(data), more=more):
        _kill(state, key, "ip_frag_queue: the lengths contradict each other")
        return None
    if not data:
        _kill(state, key, "ip_frag_queue: empty")
        return None
    inserted = queue.insert(start, data)
    if inserted is Insertion.AGAIN:
        state.taken["inet_frag_queue_insert: IPFRAG_DUP"] += 1
        return None
    if inserted is Insertion.OVERLAPS:
        _kill(state, key, "inet_frag_queue_insert: IPFRAG_OVERLAP")
        return None
    state.taken["inet_frag_queue_insert"] += 1
    if start == 0:
        queue.header = header
    if not queue.complete:
        return None
    del state.queues[key]
    state.taken["inet_frag_reasm_finish"] += 1
    return queue.header, queue.whole()


def _kill(state: Reception, key: Hashable, way: str) -> None:
    state.taken[way] += 1
    del state.queues[key]
