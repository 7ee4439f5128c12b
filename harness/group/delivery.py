# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Send a packet to a group, look at everything that can be seen afterwards, and hold it against the model."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Literal, Unpack

from harness.group.observation import observe
from harness.model.abi import Result, pack_command
from harness.model.expect import destination, expect, expect_without_hash
from harness.model.layout import Protocol
from harness.model.outcome import (
    Delivered,
    Outcome,
    Part,
    Reply,
    ReplyKind,
    Selection,
    compared,
    difference,
    selection_of,
)
from harness.model.packets import SYN_SEQUENCE, Packet, PacketFields
from harness.wire import frames
from harness.wire.batch import NUMBER
from harness.wire.scapy_layers import Ether, hexdump

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.group.reuseport_group import ReuseportGroup
    from harness.model.layout import Shape
    from harness.wire.veth import Wire

_FIRST_PORT, _LAST_PORT = 20000, 59999

_SENT_AGAIN = 1.0
"""Seconds after which a SYN-ACK is sent again that no ACK has answered (TCP_TIMEOUT_INIT, include/net/tcp.h)."""


@dataclass(frozen=True, kw_only=True)
class Handshake:
    """A connection of which the SYN was sent, and the replies to that."""

    packet: Packet
    replies: tuple[Reply, ...]

    @property
    def syn_ack(self) -> Reply | None:
        """Return the SYN-ACK, None if there was none."""
        return next((reply for reply in self.replies if reply.kind is ReplyKind.SYN_ACK), None)


class Delivery:
    """What delivers packets to one group: a call sends one packet and checks all that came of it.

    `bystanders` are other groups on the same wire, none of which may hold anything of a packet.
    """

    def __init__(self, wire: Wire, group: ReuseportGroup, *bystanders: ReuseportGroup) -> None:
        self._wire, self._group, self._bystanders = wire, group, bystanders
        self._ports = count()
        self._unfinished: list[Packet] = []
        self.observed: list[str] = []
        """What each packet came to, in words that are the same on every boot."""
        self.parts: list[Part] = []
        """The parts of the two outcomes where the last packet differed from the model."""

    @property
    def shape(self) -> Shape:
        """Return the shape of the group that packets go to."""
        return self._group.shape

    def packet(self, payload: bytes = b"", **fields: Unpack[PacketFields]) -> Packet:
        """Return a packet for the group from a port that was not used lately, with the fields set as given."""
        shape = self._group.shape
        chosen: PacketFields = {
            "source_port": _FIRST_PORT + next(self._ports) % (_LAST_PORT - _FIRST_PORT + 1),
            "destination_port": self._group.port,
            **fields,
        }
        return Packet(protocol=shape.protocol, family=shape.family, payload=payload, **chosen)

    def command(
        self, index: int, *, pass_on_failure: bool = False, more: bytes = b"", **fields: Unpack[PacketFields]
    ) -> Packet:
        """Return a packet whose payload asks for a member by its index; `more` follows the command."""
        return self.packet(pack_command(index, pass_on_failure=pass_on_failure) + more, **fields)

    def __call__(self, packet: Packet, *, hash_: int | None = None) -> Selection:
        """Send the packet; return which member holds it, if any, once all that can be seen is as the model says.

        `hash_` is the four-tuple's hash where no program is there to report it. Raises AssertionError with the
        packet, both outcomes and where they part.
        """
        __tracebackhide__ = True
        layout = self._group.layout
        expected = expect_without_hash(layout, packet)
        observed, seen_hash = self._observe(packet)
        hash_ = hash_ if seen_hash is None else seen_hash
        by_hash = expected is None
        if expected is None:
            expected = expect(layout, packet, hash_=hash_)
        if "select_error_map" not in self._group.program.maps:  # a kernel tree's own program does not record it
            expected = replace(expected, select_errors=())
        selection = selection_of(expected, hash_=hash_)
        if observed != expected:
            self.observed.append("differs from the model")
            self.parts = list(compared(expected, observed))
            self._wire.note("; ".join(_side(self.parts, side) for side in ("expected", "observed")))
            raise AssertionError(self._report(packet, expected, observed))
        for other in self._bystanders:
            assert other.collect() == {}, f"{packet}: the group on port {other.port} holds something of it"
        self.observed.append(_in_words(selection, by_hash=by_hash))
        self._wire.note(f"as expected: {_in_words(selection, by_hash=False)}")
        return selection

    def send_many(self, packets: Sequence[Packet]) -> list[int | None]:
        """UDP: send thousands of packets of one form; return which member received each, None for nobody.

        Their payload becomes their number. Raises AssertionError unless every packet was counted by the program, if
        there is one, and every packet that nobody holds was answered.
        """
        __tracebackhide__ = True
        program = self._group.program
        data = _numbered(packets)
        program.new_results()
        received: dict[int, int] = {}
        self._group.make_room(len(packets))
        replies = 0
        for answers in self._wire.send_many(data):
            received |= self._group.collect_numbers()
            replies += len(answers)
        counted = sum(program.new_results().values())
        if self._group.layout.program is not None and "result_map" in program.maps:
            assert counted == len(packets), f"{len(packets)} packets were sent, the program counted {counted}"
        assert len(received) + replies == len(packets), (
            f"of {len(packets)} packets {len(received)} were received and {replies} answered"
        )
        return [received.get(number) for number in range(len(packets))]

    def time_of(self, packets: Sequence[Packet]) -> float:
        """UDP: send what `send_many` sends; return the seconds from the first frame until the last was decided.

        What emptying the members takes is not in it.
        """
        data = _numbered(packets)
        self._group.make_room(len(packets))
        seconds, begun = 0.0, time.perf_counter()
        for _ in self._wire.send_many(data):
            seconds += time.perf_counter() - begun
            self._group.collect_numbers()
            begun = time.perf_counter()
        return seconds

    def predict(self, packets: Sequence[Packet], hashes: Sequence[int] | None = None) -> list[int | None]:
        """Return which member the model gives each packet of a batch to, for programs without a memory.

        `hashes` are those of the packets' four-tuples, for programs that leave the choice to them.
        """
        layout = self._group.layout
        known: Sequence[int | None] = hashes if hashes is not None else [None] * len(packets)
        return [destination(layout, packet, hash_=hash_) for packet, hash_ in zip(packets, known, strict=True)]

    def reset_connections(self) -> None:
        """Reset every connection that packets opened and read away what that sends."""
        self._group.disconnect()
        resets = [frame for packet in self._unfinished for frame in frames.reset(packet, sequence=SYN_SEQUENCE + 1)]
        self._unfinished.clear()
        if self.shape.protocol is Protocol.TCP:
            self._wire.send(resets)
        # A reset that no connection waits for runs the program too.
        self._group.program.new_results()

    def _observe(self, packet: Packet) -> tuple[Outcome, int | None]:
        if packet.protocol is Protocol.UDP:
            return observe(self._group, lambda: self._wire.send(frames.datagram(packet)))
        return observe(self._group, lambda: self._connect(packet))

    def send_syn(self, packet: Packet) -> Handshake:
        """TCP: send the SYN alone."""
        return Handshake(packet=packet, replies=tuple(self._wire.send(frames.syn(packet))))

    def send_ack(self, handshake: Handshake, payload: bytes = b"") -> list[Reply]:
        """TCP: send the ACK that completes a handshake; return the replies to it. ValueError without a SYN-ACK."""
        if handshake.syn_ack is None:
            raise ValueError("there is no SYN-ACK to acknowledge")
        return self._wire.send(frames.completing(handshake.packet, handshake.syn_ack, payload))

    def read_replies(self) -> list[Reply]:
        """Return the replies to whatever was done since the last packet, once all of it has come."""
        return self._wire.read_replies()

    def _connect(self, packet: Packet) -> list[Reply]:
        begun = time.monotonic()
        replies = self._shake_hands(packet)
        return replies if time.monotonic() - begun < _SENT_AGAIN else without_repeated_syn_acks(replies)

    def _shake_hands(self, packet: Packet) -> list[Reply]:
        handshake = self.send_syn(packet)
        if handshake.syn_ack is None:
            return [*handshake.replies]
        if packet.ack_payload is None:
            self._unfinished.append(packet)
            return [*handshake.replies]
        return [*handshake.replies, *self.send_ack(handshake, packet.ack_payload)]

    def _report(self, packet: Packet, expected: Outcome, observed: Outcome) -> str:
        lines = [
            str(packet),
            difference(expected, observed),
            f"  decided at line {self._group.program.deciding_line()} (linum_map)" if observed.results else "",
        ]
        for frame in frames.opening(packet):
            lines += ["", f"sent: {Ether(frame).summary()}", hexdump(frame, dump=True)]
        return "\n".join(line for line in lines)


def without_repeated_syn_acks(replies: Sequence[Reply]) -> list[Reply]:
    """Return the replies without SYN-ACKs that are the same as one before, in their sequence numbers, too."""
    kept: list[Reply] = []
    for reply in replies:
        before = [one.sequence for one in kept if one == reply]
        if reply.kind is not ReplyKind.SYN_ACK or reply.sequence not in before:
            kept.append(reply)
    return kept


_batches: deque[tuple[Sequence[Packet], list[bytes]]] = deque(maxlen=2)
"""What `Delivery.send_many` sent last: building the frames costs more than sending them, and cases send them again."""


def _numbered(packets: Sequence[Packet]) -> list[bytes]:
    """Return the frames of a batch, whose payloads are the packets' numbers in it."""
    for known, data in _batches:
        if known is packets:
            return data
    data = frames.datagrams(packets, [NUMBER.pack(number) for number in range(len(packets))])
    _batches.append((packets, data))
    return data


def _side(parts: Sequence[Part], side: Literal["expected", "observed"]) -> str:
    """Return one side of a comparison on one line."""
    return f"{side} {' · '.join(getattr(part, side) for part in parts)}"


def _in_words(selection: Selection, *, by_hash: bool) -> str:
    """Return what a packet came to, in words that are the same on every boot."""
    result = selection.result.name if selection.result is not None else "no program"
    if by_hash and selection.result in (Result.PASS, Result.DROP_ERR_SK_SELECT_REUSEPORT):
        # A key made of the hash leads to a socket on one boot, and to an empty slot on another.
        return "as the hash says"
    if not isinstance(selection, Delivered):
        return f"dropped, {result}"
    return f"member {'by hash' if by_hash else selection.member}, {result}"
