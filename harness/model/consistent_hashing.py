# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Consistent hashing: the tables that programs look members up in, and the member that a client gets. Pure."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.model.abi import MOST_NODES, NOBODY, TABLE_SIZE
from harness.model.addresses import packed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WORD = 0xFFFFFFFF


def fmix32(word: int) -> int:
    """Return MurmurHash3's finalizer of a 32-bit word (bpf/hash.h `fmix32`)."""
    word ^= word >> 16
    word = word * 0x85EBCA6B & _WORD
    word ^= word >> 13
    word = word * 0xC2B2AE35 & _WORD
    return word ^ word >> 16


@lru_cache(maxsize=1024)
def hash_address(address: str) -> int:
    """Return the hash of an IPv4 or IPv6 address (bpf/hash.h `hash_address`)."""
    data = packed(address)
    result = 0
    for word in struct.unpack(f"={len(data) // 4}I", data):
        result = fmix32(result ^ word)
    return result


def hash_client(address: str, port: int) -> int:
    """Return the hash of a client's address and port (bpf/hash.h `hash_client`)."""
    return fmix32(hash_address(address) ^ port)


def maglev_table(weights: Mapping[int, int], *, size: int = TABLE_SIZE) -> tuple[int, ...]:
    """Return Maglev's table for the members' weights: entry to member, each in proportion to its weight.

    The members take turns. Each has its own permutation of the entries, and takes the next `weight` free ones in its
    turn (Eisenbud et al., "Maglev", NSDI 2016, section 3.4). `size` is a prime. Every entry is `NOBODY` if no member
    has any weight.
    """
    if not any(weights.values()):
        return (NOBODY,) * size
    table = [NOBODY] * size
    # A member's permutation: it starts at one entry and goes on by one step, modulo the size.
    at = {member: fmix32(2 * member + 1) % size for member, weight in weights.items() if weight}
    step = {member: fmix32(2 * member + 2) % (size - 1) + 1 for member in at}
    left = size
    while True:
        for member, stride in step.items():
            place = at[member]
            for _ in range(weights[member]):
                while table[place] != NOBODY:
                    place = (place + stride) % size
                table[place] = member
                left -= 1
                if not left:
                    return tuple(table)
            at[member] = place


def rendezvous_nodes(weights: Mapping[int, int]) -> tuple[int, ...]:
    """Return the nodes that bpf/rendezvous.bpf.c scores: a member of weight N has N, numbered in the high half.

    ValueError is raised if there are more than the program looks at.
    """
    nodes = tuple(member | copy << 16 for member, weight in weights.items() for copy in range(weight))
    if len(nodes) > MOST_NODES:
        raise ValueError(f"{len(nodes)} nodes: the program scores at most {MOST_NODES}, take smaller weights")
    return nodes


def rendezvous_seeds(nodes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return (seed, member) of each node before the first `NOBODY`, of as many as the program looks at."""
    return _seeds((nodes[: nodes.index(NOBODY)] if NOBODY in nodes else nodes)[:MOST_NODES])


@lru_cache(maxsize=8)
def _seeds(nodes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((fmix32(node), node & 0xFFFF) for node in nodes)


def rendezvous_owner(client: int, seeds: Sequence[tuple[int, int]]) -> int:
    """Return the member whose node scores highest for a client's hash, the first of equals; `NOBODY` without nodes."""
    best, winner = -1, NOBODY
    for seed, member in seeds:
        # fmix32(), written out: a group of 64 needs it 64 times for each client
        word = client ^ seed
        word ^= word >> 16
        word = word * 0x85EBCA6B & 0xFFFFFFFF
        word ^= word >> 13
        word = word * 0xC2B2AE35 & 0xFFFFFFFF
        word ^= word >> 16
        if word > best:
            best, winner = word, member
    return winner
