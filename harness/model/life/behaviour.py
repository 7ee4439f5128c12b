# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where kernels differ: each field is one way in which a release behaves, or a bug of the ledger that it has. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What one kernel does that another does not. The defaults are a kernel without any known bug."""

    four_tuple_hash: bool = True
    """A connected UDP socket is in a hash of its own, found before any group, and leaves its group (78c91ae2c6de)."""
    address_before_rehash: bool = True
    """connect() over IPv4 knows the peer as it hashes the socket anew (net/ipv4/datagram.c)."""
    silent_on_bad_options: bool = True
    """A segment whose TCP options have a wrong length is dropped by a listener, and not reset by none (TCP-AO, 6.7)."""
    forgets_new_peer: bool = False
    """K27: a socket that connects again stays in the four-tuple hash where its former peer had it."""
    sleeps_through_migration: bool = False
    """K14: a listener that inherits connections is not woken."""
    wildcard_in_its_chain: bool = False
    """K15: of more than ten sockets on a port, bind(2) to the wildcard overlooks those on an address."""
    keeps_garbage: bool = False
    """K17: a socket that loses its address stays in the four-tuple hash, where no packet finds it."""
    first_group_wins: bool = False
    """K24: a lookup ends at the first group that fits, though another one, for the packet's device, fits better."""
    cpu_in_score_only: bool = False
    """K19: SO_INCOMING_CPU does not count among the members of a group."""
    refuses_assigning: bool = False
    """K25: bpf_sk_assign() refuses a socket that shares its port."""
    no_jumbograms: bool = False
    """K28: over IPv6 a UDP length of zero is too small."""
    strips_any_tags: bool = False
    """K38: priority tags of VLANs are stripped however many they are."""
    counts_fast_open_down_at_heir: bool = False
    """K30: a fast-open connection that migrates is counted down at its heir, which had not counted it."""
    selects_what_is_shut_down: bool = False
    """K46: a listener that was shut down is selected from a sockmap, though it does not listen."""
    keeps_selected_connection: bool = False
    """K12: an established connection that a program selects from a sockmap is never freed."""
    counts_reset_at_heir: bool = False
    """K45: a request that is reset as it migrates is counted out of the queue of the listener it would have gone to."""


BY_BUG: Mapping[str, str] = MappingProxyType(
    {
        "K12": "keeps_selected_connection",
        "K14": "sleeps_through_migration",
        "K15": "wildcard_in_its_chain",
        "K17": "keeps_garbage",
        "K19": "cpu_in_score_only",
        "K24": "first_group_wins",
        "K25": "refuses_assigning",
        "K27": "forgets_new_peer",
        "K28": "no_jumbograms",
        "K30": "counts_fast_open_down_at_heir",
        "K38": "strips_any_tags",
        "K45": "counts_reset_at_heir",
        "K46": "selects_what_is_shut_down",
    }
)
"""The ledger's entries that the model knows: each is a field of `Behaviour`."""


def behaviour(release: tuple[int, int, int], bugs: Iterable[str]) -> Behaviour:
    """Return what a kernel of that release does; `bugs` are the ledger's entries that it has."""
    varied = {BY_BUG[name]: True for name in bugs if name in BY_BUG}
    return Behaviour(
        four_tuple_hash=release >= (6, 13, 0),
        address_before_rehash=release >= (6, 14, 0),
        silent_on_bad_options=release >= (6, 7, 0),
        **varied,
    )
