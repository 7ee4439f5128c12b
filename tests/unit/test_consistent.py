# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The tables of consistent hashing keep what they promise, whatever the members and their weights."""

from __future__ import annotations

import struct
from collections import Counter
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.abi import MOST_NODES, NOBODY, TABLE_SIZE, pack_table
from harness.model.consistent_hashing import (
    fmix32,
    hash_address,
    hash_client,
    maglev_table,
    rendezvous_nodes,
    rendezvous_owner,
    rendezvous_seeds,
)

SMALL = 251  # a prime
WEIGHTS = st.dictionaries(st.integers(0, 15), st.integers(0, 4), min_size=1, max_size=8)
few = settings(deadline=None, max_examples=50)


@pytest.mark.parametrize(
    ("word", "mixed"),
    [
        # no bytes, seeds 0, 1 and ~0
        (0, 0),
        (1, 0x514E28B7),
        (0xFFFFFFFF, 0x81F16F39),
        # one, two and three zero bytes with seed 0: what is finalized is the length
        (2, 0x30F4C306),
        (3, 0x85F0B427),
        # four: a block of zeros makes 0xe6546b64 of the seed, and the length is added without carry
        (0xE6546B64 ^ 4, 0x2362F9DE),
    ],
)
def test_mix_is_the_finalizer_of_murmurhash3(word: int, mixed: int) -> None:
    """Published test vectors of MurmurHash3_x86_32, of which the inputs leave all the work to the finalizer."""
    assert fmix32(word) == mixed


@pytest.mark.parametrize(
    ("weights", "table"),
    [
        # fmix32(1) = 0x514e28b7 and fmix32(2) = 0x30f4c306: member 0 starts at 6 and steps by 5: 6 4 2 0 5 3 1.
        # fmix32(3) = 0x85f0b427 and fmix32(4) = 0x249cb285: member 1 starts at 0 and steps by 6: 0 6 5 4 3 2 1.
        # In turn: 6 for 0, 0 for 1, 4 for 0, 5 for 1 (6 is taken), 2 for 0, 3 for 1, and 1 for 0.
        ({0: 1, 1: 1}, (1, 0, 0, 1, 0, 1, 0)),
        # Two a turn for member 0: 6 and 4, 0 for 1, 2 and 5 for 0, 3 for 1, 1 for 0.
        ({0: 2, 1: 1}, (1, 0, 0, 1, 0, 0, 0)),
    ],
)
def test_table_worked_out_by_hand(weights: dict[int, int], table: tuple[int, ...]) -> None:
    assert maglev_table(weights, size=7) == table


def test_node_whose_seed_is_the_client_scores_nothing() -> None:
    """fmix32 is a bijection with 0 at 0: a client that equals a node's seed gives it the lowest score of all."""
    seeds = rendezvous_seeds(rendezvous_nodes(dict.fromkeys(range(8), 1)))
    assert [member for _, member in seeds] == list(range(8))
    for seed, member in seeds:
        assert rendezvous_owner(seed, [(seed, member)]) == member
        for other in seeds:
            if other[1] != member:
                assert rendezvous_owner(seed, [(seed, member), other]) == other[1]


def unmixed(score: int) -> int:
    """Return the word of which fmix32 makes a score: its steps the other way round, by inverses modulo 2^32."""
    score ^= score >> 16
    score = score * pow(0xC2B2AE35, -1, 1 << 32) & 0xFFFFFFFF
    score ^= score >> 13 ^ score >> 26
    score = score * pow(0x85EBCA6B, -1, 1 << 32) & 0xFFFFFFFF
    return score ^ score >> 16


@pytest.mark.parametrize("high", [0x0000, 0x5A5A, 0xFFFF])
def test_every_bit_of_a_score_counts(high: int) -> None:
    """Scores that are alike but for their low bits, which few clients have, are told apart."""
    scores = [high << 16 | low for low in (0, 1, 2, 3, 0x8000, 0xA5A5, 0xFFFE, 0xFFFF)]
    assert [fmix32(unmixed(score)) for score in scores] == scores
    for one, other in permutations(scores, 2):
        winner = 1 if one > other else 2
        assert rendezvous_owner(0, [(unmixed(one), 1), (unmixed(other), 2)]) == winner


def test_first_of_equal_nodes_wins() -> None:
    assert rendezvous_owner(7, [(3, 1), (3, 2)]) == 1


def test_node_is_a_member_and_the_number_of_its_repetition() -> None:
    assert rendezvous_nodes({3: 3, 5: 1}) == (3, 3 | 0x10000, 3 | 0x20000, 5)


def test_hash_of_a_client_takes_all_of_its_address_and_port() -> None:
    clients = [("192.0.2.1", 1), ("192.0.2.1", 2), ("192.0.2.2", 1), ("2001:db8::1", 1), ("2001:db8:1::1", 1)]
    assert len({hash_client(*client) for client in clients}) == len(clients)
    assert hash_address("192.0.2.1") == fmix32(int.from_bytes(bytes([192, 0, 2, 1]), "little"))


def test_table_has_as_many_entries_as_a_prime() -> None:
    assert len(maglev_table({0: 1})) == TABLE_SIZE
    assert all(TABLE_SIZE % divisor for divisor in range(2, 100))


def test_table_is_packed_whole_or_not_at_all() -> None:
    assert pack_table((1, NOBODY)) == struct.pack("=2I", 1, NOBODY) + b"\xff" * (4 * (TABLE_SIZE - 2))
    with pytest.raises(ValueError, match="8192 entries"):
        pack_table(range(TABLE_SIZE + 1))


def test_more_nodes_than_the_program_scores_are_refused() -> None:
    """bpf/rendezvous.h looks at no more: the model would give clients to members that the program never sees."""
    assert len(rendezvous_nodes({0: MOST_NODES})) == MOST_NODES
    with pytest.raises(ValueError, match="129 nodes"):
        rendezvous_nodes({0: MOST_NODES, 1: 1})


@few
@given(WEIGHTS)
def test_entries_are_in_proportion_to_the_weights(weights: dict[int, int]) -> None:
    table = Counter(maglev_table(weights, size=SMALL))
    total = sum(weights.values())
    if not total:
        assert table == {NOBODY: SMALL}
        return
    for member, weight in weights.items():
        assert abs(table[member] - SMALL * weight / total) <= max(weights.values())


@few
@given(st.integers(2, 12), st.integers(0, 11))
def test_table_changes_little_when_a_member_leaves(size: int, leaving: int) -> None:
    leaving %= size
    before = maglev_table(dict.fromkeys(range(size), 1))
    after = maglev_table({member: 1 for member in range(size) if member != leaving})
    others = [pair for pair in zip(before, after, strict=True) if pair[0] != leaving]
    assert leaving not in after
    assert sum(old != new for old, new in others) <= 0.03 * len(others)


@few
@given(WEIGHTS, st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=50))
def test_nobody_moves_to_a_member_that_was_there(weights: dict[int, int], clients: list[int]) -> None:
    stages = [
        {member: weight for member, weight in weights.items() if member != leaving} for leaving in (None, min(weights))
    ]
    owners = [
        [rendezvous_owner(client, rendezvous_seeds(rendezvous_nodes(stage))) for client in clients] for stage in stages
    ]
    (before, after) = next(pairwise(owners))
    assert all(old in (new, min(weights)) for old, new in zip(before, after, strict=True))


def test_nodes_end_with_nobody() -> None:
    assert rendezvous_seeds((3, 7 | 1 << 16, NOBODY, 5)) == ((fmix32(3), 3), (fmix32(7 | 1 << 16), 7))
    assert rendezvous_owner(1, ()) == NOBODY
