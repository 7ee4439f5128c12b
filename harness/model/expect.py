# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The outcome that a packet must have, computed from the layout of the group and the packet. Pure.

The outcome is computed before the packet is sent, with one exception: where the kernel's hash decides, the hash is an
input that only the program can report.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from harness.model.abi import NO_OVERRIDE, Context
from harness.model.decision import Decision, HashUnknownError, View
from harness.model.fate import Fate, fate
from harness.model.layout import Bind, Protocol
from harness.model.outcome import Outcome, Reply, ReplyKind
from harness.model.packets import ACK_HEADER, SYN_SEQUENCE, Packet
from harness.model.rules import RULES
from harness.model.variants import VARIANTS, Attachment

if TYPE_CHECKING:
    from harness.model.layout import Layout


def reciprocal_scale(value: int, ends: int) -> int:
    """Map a 32-bit hash onto [0, ends) as the kernel does (include/linux/kernel.h `reciprocal_scale`)."""
    return (value * ends) >> 32


class _Run(NamedTuple):
    """One run of the program, and the member that its verdict leads to."""

    decision: Decision | None
    member: int | None
    layout: Layout
    """The layout after the run."""


def expect_without_hash(layout: Layout, packet: Packet) -> Outcome | None:
    """Return the outcome that the packet must have whatever its hash is; None if the hash decides.

    This can be said before the packet is sent. Where it is None, `expect` needs the hash that the program reported.
    """
    try:
        return expect(layout, packet)
    except HashUnknownError:
        return None


def expect(layout: Layout, packet: Packet, *, hash_: int | None = None) -> Outcome:
    """Return the outcome that the packet must have.

    `hash_` is the kernel's hash of the packet's four-tuple. Its key is drawn at boot, so it cannot be computed here
    and is an input. HashUnknownError is raised if the outcome depends on it and it is None.
    """
    how_far = fate(packet)
    if how_far is Fate.LOST_BEFORE:
        return Outcome(override=layout.index_override, state=layout.state)
    first = _run(layout, View(packet=packet, payload=packet.delivered_payload, hash=hash_))
    if how_far is Fate.LOST_AFTER:
        return _outcome(layout, packet, [first], length=packet.transport_length)
    if layout.shape.protocol is Protocol.UDP:
        return _datagram(layout, packet, first)
    return _connection(layout, packet, first, hash_)


def destination(layout: Layout, packet: Packet, *, hash_: int | None = None) -> int | None:
    """Return the member that a usual datagram, or a SYN, is given to; None if it is dropped.

    HashUnknownError is raised if that depends on the hash and `hash_` is None.
    """
    return _run(layout, View(packet=packet, payload=packet.payload, hash=hash_)).member


def _run(layout: Layout, view: View) -> _Run:
    if layout.program is None:
        return _Run(decision=None, member=_by_hash(layout, view), layout=layout)
    decision = RULES[layout.program](view, layout)
    after = layout
    if decision.override_spent:
        after = replace(after, index_override=NO_OVERRIDE)
    if decision.state is not None:
        after = replace(after, state=decision.state)
    member = decision.member
    if not decision.verdict_passes:
        member = None
    elif member is None:
        member = _by_hash(layout, view)
    return _Run(decision=decision, member=member, layout=after)


def _by_hash(layout: Layout, view: View) -> int:
    """Return the member that the hash falls on (net/core/sock_reuseport.c `reuseport_select_sock_by_hash`)."""
    return layout.members[reciprocal_scale(view.known_hash, len(layout.members))]


def _datagram(layout: Layout, packet: Packet, run: _Run) -> Outcome:
    outcome = _outcome(layout, packet, [run], length=packet.transport_length)
    if run.member is not None:
        return replace(outcome, received={run.member: (packet.delivered_payload,)})
    # __udp4_lib_rcv() finds no socket: either none matched, or the program dropped the packet
    return replace(outcome, replies=(_reply(ReplyKind.PORT_UNREACHABLE, packet),))


def _connection(layout: Layout, packet: Packet, syn: _Run, hash_: int | None) -> Outcome:
    reset = _reply(ReplyKind.RESET, packet, ack=SYN_SEQUENCE + 1 + len(packet.payload))
    if syn.member is None:
        return replace(_outcome(layout, packet, [syn], length=packet.transport_length), replies=(reset,))

    # tcp_try_fastopen: data in the SYN is taken, and acknowledged, only by a server that allows it without a cookie
    early = packet.payload if layout.fast_open else b""
    acknowledged = SYN_SEQUENCE + 1 + len(early)
    syn_ack = _reply(ReplyKind.SYN_ACK, packet, ack=acknowledged)
    outcome = replace(_outcome(layout, packet, [syn], length=packet.transport_length), replies=(syn_ack,))
    if packet.ack_payload is None:
        return replace(outcome, received={syn.member: (early,)} if early else {})
    if not layout.syncookies or early:
        return replace(outcome, received={syn.member: (early + packet.ack_payload,)})

    # A SYN cookie leaves no request behind: the ACK is looked up anew, by the listener's program (40a1227ea845).
    ack = _run(syn.layout, View(packet=packet, payload=packet.ack_payload, hash=hash_))
    outcome = _outcome(layout, packet, [syn, ack], length=ACK_HEADER + len(packet.ack_payload))
    if ack.member is None:
        refused = _reply(ReplyKind.RESET, packet, ack=None)
        return replace(outcome, replies=(syn_ack, refused))
    return replace(outcome, received={ack.member: (packet.ack_payload,)}, replies=(syn_ack,))


def _outcome(layout: Layout, packet: Packet, runs: list[_Run], *, length: int) -> Outcome:
    """Return what the runs leave in the maps; `length` is the last run's, from the transport header."""
    after = runs[-1].layout
    decisions = [run.decision for run in runs if run.decision is not None]
    results = Counter(decision.result for decision in decisions if decision.result is not None)
    return Outcome(
        results=dict(results),
        context=_context(layout, packet, length) if results and _records(layout) else None,
        select_errors=_select_errors(decisions),
        override=after.index_override,
        state=after.state,
    )


def _records(layout: Layout) -> bool:
    """Return whether the program records its context: one that returns a place in the group does not."""
    return layout.program is not None and VARIANTS[layout.program].attachment is Attachment.SK_REUSEPORT


def _context(layout: Layout, packet: Packet, length: int) -> Context:
    return Context(
        ip_protocol=layout.shape.protocol.number,
        eth_protocol=layout.shape.family.eth_protocol,
        source=packet.source,
        source_port=packet.source_port,
        destination=packet.destination,
        destination_port=packet.destination_port,
        bind_inany=layout.shape.bind is Bind.ANY,
        length=length,
    )


def _select_errors(decisions: list[Decision]) -> tuple[int, ...]:
    """Return the helper's last answer in all runs; empty if no run called it."""
    called = [decision for decision in decisions if decision.index is not None]
    return (called[-1].error,) if called else ()


def _reply(kind: ReplyKind, packet: Packet, *, ack: int | None = None) -> Reply:
    return Reply(kind=kind, address=packet.source, port=packet.source_port, ack=ack)
