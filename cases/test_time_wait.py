# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Segments for a connection in TIME_WAIT, which a member ended first: only a new SYN is the group's to select for.

`tcp_timewait_state_process` tells which segment is what. An ACK in answer is counted: the wire leaves pure ACKs out.
"""

from __future__ import annotations

import socket
import struct
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family, promise
from harness.group.netstat import counter
from harness.model import uapi
from harness.model.abi import Result
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind
from harness.model.packets import SYN_SEQUENCE
from harness.wire import frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import AttachReference, Bench, Packet, Program
    from harness.model.outcome import Reply

FIN, SYN, RST, ACK = uapi.TCP_FIN, uapi.TCP_SYN, uapi.TCP_RST, uapi.TCP_ACK
CLOSE_AS_USUAL = struct.pack("ii", 0, 0)


@dataclass(frozen=True)
class Waiting:
    """A connection that the first listener's side has ended, and what comes for its four-tuple."""

    bench: Bench
    program: Program
    packet: Packet
    after: int
    """The sequence number that the peer would send next."""
    own: int
    """The sequence number that the server would send next."""

    def send(self, flags: int, index: int = 0, *, sequence: int | None = None, payload: bytes = b"") -> list[Reply]:
        """Send a segment, with a command for `index` if it is a SYN; return the replies, pure ACKs left out."""
        packet = replace(self.packet, payload=self.bench.packet(index).payload if flags & SYN else payload)
        return self.bench.wire.send(self.frames_of(packet, flags, sequence))

    def frames_of(self, packet: Packet, flags: int, sequence: int | None = None) -> list[bytes]:
        """Return the frames of a segment that is what the server expects next, or has another sequence number."""
        number = self.after if sequence is None else sequence
        return frames.segment(packet, flags, sequence=number, acknowledge=self.own if flags & ACK else 0)

    def end(self) -> None:
        """Have the server forget it."""
        self.send(RST)


@contextmanager
def ended_by_the_server(
    bench: Bench, attach_reference: AttachReference, family: Family, *, peer_ends: bool
) -> Iterator[Waiting]:
    """Open and end a connection of the first of two listeners, in slots 0 and 1; slots 2 and 3 are empty."""
    listeners = bench.group(2, Protocol.TCP, family)
    program = attach_reference(listeners, slots=4)
    packet = bench.packet(0, Protocol.TCP, family)
    answer = bench.send_syn(packet)
    bench.send_ack(packet, answer)
    assert set(bench.read()) == {listeners[0]}
    (connection,) = bench.take_connections()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_AS_USUAL)
    connection.close()
    waiting = Waiting(
        bench, program, packet, after=SYN_SEQUENCE + (2 if peer_ends else 1), own=(answer.sequence + 2) & 0xFFFFFFFF
    )
    flags = FIN | ACK if peer_ends else ACK
    assert waiting.send(flags, sequence=SYN_SEQUENCE + 1) == []
    program.new_results()
    yield waiting
    waiting.end()


@pytest.fixture
def waiting(bench: Bench, attach_reference: AttachReference, family: Family) -> Iterator[Waiting]:
    """Return a connection in TIME_WAIT."""
    with ended_by_the_server(bench, attach_reference, family, peer_ends=True) as found:
        yield found


@pytest.fixture
def half_ended(bench: Bench, attach_reference: AttachReference, family: Family) -> Iterator[Waiting]:
    """Return a connection that the server has ended, and the peer has not: FIN_WAIT2, without a socket."""
    with ended_by_the_server(bench, attach_reference, family, peer_ends=False) as found:
        yield found


def acks() -> int:
    """Return how many segments TCP has sent, resets left out."""
    return counter("TcpOutSegs") - counter("TcpOutRsts")


@promise("time-wait.syn")
@each_family
def test_new_syn_is_the_groups(waiting: Waiting, family: Family) -> None:
    """A SYN with a later sequence number ends TIME_WAIT: the program selects for it, and may select another member.

    The sequence number of the answer is no matter of selection. Before 41eecbd712b7 (6.10) it was any number, since
    `tcp_v4_fill_cb` forgot the one that `tcp_timewait_state_process` had chosen.
    """
    (answer,) = waiting.send(SYN, 1, sequence=waiting.after + 1000)
    assert answer.kind is ReplyKind.SYN_ACK
    assert waiting.program.new_results() == {Result.PASS: 1}
    waiting.bench.send_ack(waiting.packet, answer)
    assert set(waiting.bench.read()) == {1}


@promise("time-wait.dropped")
@each_family
def test_new_syn_that_is_dropped_is_acknowledged(waiting: Waiting, family: Family) -> None:
    """A new SYN that the program drops is not reset, as elsewhere: the old connection acknowledges it and goes on."""
    before = acks()
    assert waiting.send(SYN, 3, sequence=waiting.after + 1000) == []
    assert waiting.program.new_results() == {Result.DROP_ERR_SK_SELECT_REUSEPORT: 1}
    assert acks() == before + 1
    (answer,) = waiting.send(SYN, 1, sequence=waiting.after + 1000)
    assert answer.kind is ReplyKind.SYN_ACK


@promise("time-wait.no-listener")
@each_family
def test_new_syn_without_a_listener_is_acknowledged(waiting: Waiting, family: Family) -> None:
    """A new SYN is acknowledged by the old connection when the group is gone."""
    for each in waiting.bench.sockets:
        each.close()
    before = acks()
    assert waiting.send(SYN, 1, sequence=waiting.after + 1000) == []
    assert acks() == before + 1


@promise("time-wait.old")
@each_family
def test_old_syn_asks_no_program(waiting: Waiting, family: Family) -> None:
    """A SYN with an earlier sequence number may be an old one: it is acknowledged, and no program runs."""
    before = acks()
    assert waiting.send(SYN, 1, sequence=SYN_SEQUENCE) == []
    assert acks() == before + 1
    assert waiting.program.new_results() == {}


@promise("time-wait.ack")
@each_family
def test_ack_asks_no_program(waiting: Waiting, family: Family) -> None:
    """An ACK that is expected is not answered, and no program runs."""
    before = acks()
    assert waiting.send(ACK) == []
    assert acks() == before
    assert waiting.program.new_results() == {}


@promise("time-wait.checksum")
@each_family
def test_segment_with_a_false_checksum_is_lost(waiting: Waiting, family: Family) -> None:
    """A segment with a false checksum is lost; it is longer than what is checked before the lookup (76 bytes)."""
    before, wrong = acks(), counter("TcpInCsumErrors")
    packet = replace(waiting.packet, payload=bytes(100))
    (frame,) = waiting.frames_of(packet, SYN, waiting.after + 1000)
    assert waiting.bench.wire.send([frame[:-1] + b"\1"]) == []
    assert (acks(), counter("TcpInCsumErrors")) == (before, wrong + 1)
    assert waiting.program.new_results() == {}


@promise("time-wait.half-ended")
@each_family
def test_syn_for_a_half_ended_connection_is_reset(half_ended: Waiting, family: Family) -> None:
    """A new SYN resets a connection that the peer has not ended, without the program; the next one is the group's."""
    (answer,) = half_ended.send(SYN, 1)
    assert answer.kind is ReplyKind.RESET
    assert half_ended.program.new_results() == {}
    (answer,) = half_ended.send(SYN, 1)
    assert answer.kind is ReplyKind.SYN_ACK
    assert half_ended.program.new_results() == {Result.PASS: 1}
