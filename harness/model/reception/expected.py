# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The outcome that frames of any kind must have at a group whose program is the reference. Pure.

harness/model/expect.py does the same for packets of which it is known how they were made.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.model.abi import Context
from harness.model.addresses import spelled
from harness.model.decision import Decision, View
from harness.model.layout import Bind, Family
from harness.model.outcome import Outcome, Reply, ReplyKind
from harness.model.packets import Packet
from harness.model.reception import link, transport
from harness.model.reception.state import Arrived, Refused
from harness.model.rules import RULES
from harness.model.uapi import TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.model.abi import Result
    from harness.model.layout import Layout
    from harness.model.reception.state import Reception
    from harness.model.reception.transport import Segment

_REFERENCE = RULES["reference"]
_USUAL_SYN = b"\x60\x02"
"""A TCP header's data offset and flags, by which traffic control knows a SYN with one word of options."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The ports at which packets may find the group."""

    group: int
    assigned: int
    """Where traffic control assigns a member: of UDP every datagram in one frame, of TCP every SYN of usual form."""


_TCP_HEADER, _MD5_OPTION, _KIND_AND_SIZE = 20, 18, 2
_END, _NOTHING = 0, 1  # TCPOPT_EOL, TCPOPT_NOP


def expect(state: Reception, layout: Layout, ports: Ports, frames: Iterable[bytes]) -> Outcome:
    """Return the outcome of frames that are sent one after the other; at most one of them completes a packet."""
    seen = _Seen()
    for frame in frames:
        _of_frame(state, layout, ports, frame, seen)
    return Outcome(
        received=seen.received,
        results=seen.results,
        context=seen.context,
        select_errors=seen.select_errors,
        override=layout.index_override,
        state=layout.state,
        replies=tuple(seen.replies),
    )


class _Seen:
    """What can be seen of the frames so far: the fields of an `Outcome`."""

    def __init__(self) -> None:
        self.received: dict[int, tuple[bytes, ...]] = {}
        self.results: dict[Result, int] = {}
        self.context: Context | None = None
        self.select_errors: tuple[int, ...] = ()
        self.replies: list[Reply] = []

    def reply(self, kind: ReplyKind, made: Segment, *, ack: int | None = None) -> None:
        """Note an answer to a segment."""
        address = spelled(made.arrived.source)
        self.replies.append(Reply(kind=kind, address=address, port=made.source_port, ack=ack))


def _of_frame(state: Reception, layout: Layout, ports: Ports, frame: bytes, seen: _Seen) -> None:
    came = link.receive(state, frame)
    if isinstance(came, Refused):
        detail = f"ICMP type {came.icmp_type} code {came.code} "
        seen.replies.append(Reply(kind=ReplyKind.OTHER, address=spelled(came.source), port=0, detail=detail))
        return
    if not isinstance(came, Arrived):
        return
    made = transport.receive(state, came)
    if not isinstance(made, transport.Segment):
        return
    decision = None
    if _finds_group(state, layout, ports, made):
        decision = _decide(state, layout, made)
        _note_run(seen, made, layout, decision)
    if came.protocol == socket.IPPROTO_UDP:
        _datagram(state, seen, made, decision)
    else:
        _segment(state, seen, made, decision)


def _finds_group(state: Reception, layout: Layout, ports: Ports, made: Segment) -> bool:
    """Return whether the lookup comes to the group: by its port, or because traffic control assigned a member.

    `bpf_sk_assign`, and `inet_steal_sock` for what a member that was assigned stands for (9c02bec95954).
    """
    arrived = made.arrived
    if arrived.protocol != layout.shape.protocol.number:
        return False
    if made.destination_port == ports.group:
        return True
    if made.destination_port != ports.assigned or state.behaviour.refuses_assigning:
        return False
    if arrived.protocol == socket.IPPROTO_TCP and arrived.data[12:14] != _USUAL_SYN:
        return False
    state.taken["inet_steal_sock"] += 1
    return True


def _decide(state: Reception, layout: Layout, made: Segment) -> Decision:
    """Return what bpf/reference.bpf.c decides: a FIN it leaves to the hash, and does not count."""
    state.taken["bpf_run_sk_reuseport"] += 1
    if made.arrived.protocol == socket.IPPROTO_TCP and made.flags & TCP_FIN:
        return Decision(result=None)
    packet = Packet(protocol=layout.shape.protocol, family=layout.shape.family, source_port=made.source_port)
    return _REFERENCE(View(packet=packet, payload=made.payload, hash=None), layout)


def _note_run(seen: _Seen, made: Segment, layout: Layout, decision: Decision) -> None:
    if decision.result is None:
        return
    arrived = made.arrived
    seen.results[decision.result] = seen.results.get(decision.result, 0) + 1
    seen.select_errors = () if decision.index is None else (decision.error,)
    seen.context = Context(
        ip_protocol=arrived.protocol,
        eth_protocol=arrived.family.eth_protocol,
        source=spelled(arrived.source),
        source_port=made.source_port,
        destination=spelled(arrived.destination),
        destination_port=made.destination_port,
        bind_inany=layout.shape.bind is Bind.ANY,
        length=len(arrived.data),
    )


def _datagram(state: Reception, seen: _Seen, made: Segment, decision: Decision | None) -> None:
    """`udp_unicast_rcv_skb`, or port unreachable: each only with a right checksum, over IPv6 only with any."""
    if not made.sound or (not made.has_checksum and made.arrived.family is Family.IPV6):
        state.taken["udp_lib_checksum_complete: wrong, or none over IPv6"] += 1
    elif decision is not None and decision.verdict_passes and decision.member is not None:
        state.taken["udp_unicast_rcv_skb"] += 1
        seen.received[decision.member] = (*seen.received.get(decision.member, ()), made.payload)
    else:
        state.taken["icmp_send: port unreachable"] += 1
        seen.reply(ReplyKind.PORT_UNREACHABLE, made)


def _segment(state: Reception, seen: _Seen, made: Segment, decision: Decision | None) -> None:
    """`tcp_rcv_state_process` of a listener, or without one `tcp_v4_send_reset`."""
    flags = made.flags
    if not made.sound:
        state.taken["tcp_checksum_complete: wrong"] += 1
    elif decision is None or not decision.verdict_passes:
        _reset(state, seen, made)
    elif state.behaviour.silent_on_bad_options and not _options_are_sound(made):
        state.taken["tcp_inbound_hash: bad options"] += 1
    elif flags & TCP_ACK:
        state.taken["tcp_rcv_state_process: listener, ACK"] += 1
        _reset(state, seen, made)
    elif flags & TCP_RST or not flags & TCP_SYN or flags & TCP_FIN:
        state.taken["tcp_rcv_state_process: listener, discarded"] += 1
    else:
        state.taken["tcp_conn_request"] += 1
        seen.reply(ReplyKind.SYN_ACK, made, ack=_sequence(made) + 1)


def _reset(state: Reception, seen: _Seen, made: Segment) -> None:
    """`tcp_v4_send_reset`: a reset is not answered, and an ACK is not acknowledged."""
    if made.flags & TCP_RST:
        state.taken["tcp_v4_send_reset: of a reset"] += 1
    elif state.behaviour.silent_on_bad_options and not _options_are_sound(made):
        state.taken["tcp_v4_send_reset: of bad options"] += 1
    else:
        state.taken["tcp_v4_send_reset"] += 1
        counted = bool(made.flags & TCP_SYN) + bool(made.flags & TCP_FIN) + len(made.payload)
        ack = None if made.flags & TCP_ACK else (_sequence(made) + counted) & 0xFFFFFFFF
        seen.reply(ReplyKind.RESET, made, ack=ack)


def _options_are_sound(made: Segment) -> bool:
    """`tcp_do_parse_auth_options`: whether each option has a possible length, while there is room for an MD5 one."""
    left = made.arrived.data[_TCP_HEADER : made.header]
    while len(left) >= _MD5_OPTION and left[0] != _END:
        size = 1 if left[0] == _NOTHING else left[1]
        if left[0] != _NOTHING and not _KIND_AND_SIZE <= size <= len(left):
            return False
        left = left[size:]
    return True


def _sequence(made: Segment) -> int:
    return int.from_bytes(made.arrived.data[4:8], "big")
