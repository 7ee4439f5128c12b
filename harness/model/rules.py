# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The rules: what each variant decides, one function for each program under bpf/. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.model.abi import CID_LENGTH, NO_OVERRIDE, TABLE_SIZE, Result, native_number, unpack_command, unpack_indices
from harness.model.consistent_hashing import fmix32, hash_address, hash_client, rendezvous_owner, rendezvous_seeds
from harness.model.decision import Decision, View, select
from harness.model.layout import Family, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.model.layout import Layout

    Rule = Callable[[View, Layout], Decision]

_MEMORY = (1 << 64) - 1

RULES: dict[str, Rule] = {}
"""The rules by the variant's name in harness/model/variants.py."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of the named variants; ValueError if one of them has a rule."""

    def enter(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"{name} has two rules")
            RULES[name] = function
        return function

    return enter


@rule("reference", "reference_direct")
def reference(view: View, layout: Layout) -> Decision:
    """Select by the index in the payload; the outer map, if the program has one, has to hold the inner one."""
    command = unpack_command(view.payload)
    if command is None:
        return Decision(result=Result.DROP_ERR_SKB_DATA)
    if not layout.inner_present:
        return Decision(result=Result.DROP_ERR_INNER_MAP)
    index, pass_on_failure = command
    if layout.index_override == NO_OVERRIDE:
        return select(layout, index, pass_on_failure=pass_on_failure)
    overridden = select(layout, layout.index_override, pass_on_failure=pass_on_failure)
    return replace(overridden, override_spent=True)


@rule("by_port_group", "migrate")
def by_command(view: View, layout: Layout) -> Decision:
    """Select by the index in the payload from the map of the group that the packet came to; a failure drops."""
    command = unpack_command(view.payload)
    if command is None:
        return Decision(result=Result.DROP_ERR_SKB_DATA)
    return select(layout, command[0])


@rule("udp4_by_content")
def udp4_by_content(view: View, layout: Layout) -> Decision:
    """Select by a hash of a datagram's first four bytes over IPv4; leave everything else to the kernel's hash."""
    if layout.shape.protocol is not Protocol.UDP or view.packet.family is not Family.IPV4:
        return Decision(result=Result.PASS)
    if len(view.payload) < 4:
        return Decision(result=Result.DROP_ERR_SKB_DATA)
    return select(layout, fmix32(native_number(view.payload[:4])) % layout.size)


@rule("by_source_port")
def by_source_port(view: View, layout: Layout) -> Decision:
    """Select by the source port modulo the size of the group."""
    return select(layout, view.packet.source_port % layout.size)


@rule("by_source_address")
def by_source_address(view: View, layout: Layout) -> Decision:
    """Select by a hash of the source address modulo the size of the group."""
    return select(layout, hash_address(view.packet.source) % layout.size)


@rule("by_hash")
def by_hash(view: View, layout: Layout) -> Decision:
    """Select by the kernel's hash of the four-tuple modulo the size of the group."""
    return select(layout, view.known_hash % layout.size)


@rule("by_cpu")
def by_cpu(view: View, layout: Layout) -> Decision:
    """Select by the CPU that received the packet modulo the size of the group."""
    return select(layout, layout.cpu % layout.size)


@rule("round_robin")
def round_robin(view: View, layout: Layout) -> Decision:
    """Select the members in turn; the state is the number of packets so far."""
    # the key is the low half of the 64-bit counter
    chosen = select(layout, (layout.state & 0xFFFFFFFF) % layout.size)
    return replace(chosen, state=(layout.state + 1) & _MEMORY)


@rule("random")
def random(view: View, layout: Layout) -> Decision:
    """Select at random; the state is that of Marsaglia's xorshift64, and its high half the key."""
    state = layout.state
    state ^= state << 13 & _MEMORY
    state ^= state >> 7
    state ^= state << 17 & _MEMORY
    return replace(select(layout, (state >> 32) % layout.size), state=state)


@rule("by_quic_index")
def by_quic_index(view: View, layout: Layout) -> Decision:
    """Select by the first byte of the server's connection ID."""
    cid = _server_cid(view, layout)
    return cid if isinstance(cid, Decision) else select(layout, cid[0])


@rule("by_quic_connection")
def by_quic_connection(view: View, layout: Layout) -> Decision:
    """Select by the server's connection ID from a sockhash; leave one that is not in it to the kernel's hash."""
    cid = _server_cid(view, layout)
    if isinstance(cid, Decision):
        return cid
    return select(layout, native_number(cid), pass_on_failure=True)


def _server_cid(view: View, layout: Layout) -> bytes | Decision:
    """Return the connection ID that a server chose (RFC 9000, section 17), or the decision without one."""
    payload = view.payload
    if layout.shape.protocol is not Protocol.UDP:
        return Decision(result=Result.PASS)
    if len(payload) < 1 + CID_LENGTH or not payload[0] & 0x40:
        return Decision(result=Result.DROP_ERR_SKB_DATA)
    if not payload[0] & 0x80:
        return payload[1 : 1 + CID_LENGTH]
    if not payload[0] & 0x20 or payload[5] != CID_LENGTH:  # Initial and 0-RTT: the client chose it
        return Decision(result=Result.PASS)
    if len(payload) < 6 + CID_LENGTH:
        return Decision(result=Result.DROP_ERR_SKB_DATA)
    return payload[6 : 6 + CID_LENGTH]


@rule("maglev")
def maglev(view: View, layout: Layout) -> Decision:
    """Select by the entry of Maglev's table that the client's hash points to."""
    return select(layout, layout.table[hash_client(view.packet.source, view.packet.source_port) % TABLE_SIZE])


@rule("rendezvous")
def rendezvous(view: View, layout: Layout) -> Decision:
    """Select the member whose node scores highest for the client."""
    client = hash_client(view.packet.source, view.packet.source_port)
    return select(layout, rendezvous_owner(client, rendezvous_seeds(layout.table)))


@rule("active_backup")
def active_backup(view: View, layout: Layout) -> Decision:
    """Select the socket in slot 0 if there is one, otherwise the one in slot 1."""
    return select(layout, 0 if 0 in layout.slots else 1)


@rule("active_active")
def active_active(view: View, layout: Layout) -> Decision:
    """Select from slot 0 for even source ports and from slot 1 for odd ones; each stands in for the other."""
    first = view.packet.source_port & 1
    return select(layout, first if first in layout.slots else 1 - first)


@rule("select_twice")
def select_twice(view: View, layout: Layout) -> Decision:
    """Select twice, by the command's first word and by its second: the last success counts."""
    indices = unpack_indices(view.payload)
    if indices is None:
        return Decision(result=Result.DROP_ERR_SKB_DATA)
    first, second = (select(layout, index, pass_on_failure=True) for index in indices)
    member = first.member if second.member is None else second.member
    result = Result.PASS_ERR_SK_SELECT_REUSEPORT if member is None else Result.PASS
    return replace(second, result=result, member=member)


@rule("select_then_drop")
def select_then_drop(view: View, layout: Layout) -> Decision:
    """Select by the index in the payload, and return SK_DROP, which overrules it."""
    command = unpack_command(view.payload)
    if command is None:
        return Decision(result=Result.DROP_ERR_SKB_DATA)
    return replace(select(layout, command[0]), result=Result.DROP_MISC)


@rule("always_pass", "load_bytes", "context")
def always_pass(view: View, layout: Layout) -> Decision:
    """Select nothing and pass: the kernel's hash decides."""
    return Decision(result=Result.PASS)


@rule("always_drop", "verdict_two", "verdict_minus_one")
def always_drop(view: View, layout: Layout) -> Decision:
    """Drop: every verdict but SK_PASS does (net/core/filter.c `bpf_run_sk_reuseport`)."""
    return Decision(result=Result.DROP_MISC)


@rule("filter_index")
def filter_index(view: View, layout: Layout) -> Decision:
    """Return the payload's first four bytes as a place in the group; with fewer bytes the kernel's hash decides."""
    if len(view.payload) < 4:
        return Decision(result=Result.PASS_ERR_SK_SELECT_REUSEPORT)
    return _place(layout, native_number(view.payload[:4]), Result.PASS)


@rule("classic_payload")
def classic_payload(view: View, layout: Layout) -> Decision:
    """Return the payload's first byte; without one the load ends the program with 0, which is a place too."""
    return _place(layout, view.payload[0] if view.payload else 0)


@rule("classic_source_port")
def classic_source_port(view: View, layout: Layout) -> Decision:
    """Return the source port modulo 16, read behind an IPv4 header without options."""
    return _place(layout, view.packet.source_port % 16)


@rule("classic_cpu")
def classic_cpu(view: View, layout: Layout) -> Decision:
    """Return the CPU that received the packet."""
    return _place(layout, layout.cpu)


def _place(layout: Layout, place: int, result: Result | None = None) -> Decision:
    """Return the decision for a place in the group; the kernel's hash decides if there is no such place."""
    member = layout.members[place] if place < len(layout.members) else None
    return Decision(result=result, member=member)
