# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Segments that the listener which was selected does not take: it alone decides, and no other member is asked.

A SYN that it refuses is lost, though others of the group would have taken it. Its request waits for an ACK that is
right, and any other leaves the request as it was. An ACK in answer is counted: the wire leaves pure ACKs out.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.cases import each_family, promise, returning
from harness.group.netstat import counter
from harness.group.timers import late_syn_ack_timer
from harness.loader.program import attach_classic
from harness.model import uapi
from harness.model.abi import Result
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind
from harness.model.packets import SYN_SEQUENCE
from harness.wire import frames
from harness.wire.options import option_of, segment_with_option, syn_with_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import AttachReference, Bench, Packet, Program
    from harness.model.outcome import Reply

IPV6_MINHOPCOUNT = 73  # include/uapi/linux/in6.h
IP_MINTTL = 21  # include/uapi/linux/in.h
SO_DETACH_FILTER = 27  # include/uapi/asm-generic/socket.h
MINIMUM = {Family.IPV4: (socket.IPPROTO_IP, IP_MINTTL), Family.IPV6: (socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT)}
TIMESTAMPS = 8
"""The kind of the option (RFC 7323): the sender's time, and the time that it answers to."""

BACKLOG = 2
"""Requests that a listener keeps; of connections, one more (`sk_acceptq_is_full`)."""


class Listeners(NamedTuple):
    """Two listeners of one group, in slots 0 and 1 of its program's map."""

    bench: Bench
    program: Program
    family: Family

    def syn(self, index: int = 0) -> tuple[Packet, Reply]:
        """Send a SYN to a listener; return the packet and the SYN-ACK."""
        packet = self.bench.packet(index, Protocol.TCP, self.family)
        return packet, self.bench.send_syn(packet)

    def refuses_ack(self, packet: Packet, answer: Reply) -> None:
        """Send the ACK of a request; check that nothing comes of it."""
        assert self.bench.send_ack(packet, answer) == []
        assert self.bench.read() == {}

    def takes_ack(self, packet: Packet, answer: Reply) -> None:
        """Send the ACK of a request; check that the first listener has the connection, and that no program ran."""
        self.program.new_results()
        assert self.bench.send_ack(packet, answer) == []
        assert set(self.bench.read()) == {0}
        assert self.program.new_results() == {}


@pytest.fixture
def listeners(wire: object, bench: Bench, attach_reference: AttachReference, family: Family) -> Iterator[Listeners]:
    """Return two listeners under the reference program, whose SYN-ACKs are not sent again."""
    with late_syn_ack_timer():
        numbers = bench.group(2, Protocol.TCP, family)
        yield Listeners(bench, attach_reference(numbers), family)


def segments() -> int:
    """Return how many segments TCP has sent."""
    return counter("TcpOutSegs")


@promise("request.checksum")
@each_family
def test_ack_with_a_false_checksum_is_lost(listeners: Listeners, family: Family) -> None:
    """An ACK with a false checksum is lost; it is longer than what is checked before the lookup (76 bytes)."""
    packet, answer = listeners.syn()
    before = counter("TcpInCsumErrors")
    (frame,) = frames.completing(packet, answer, bytes(100))
    assert listeners.bench.send_frames([frame[:-1] + b"\1"]) == []
    assert counter("TcpInCsumErrors") == before + 1
    assert listeners.bench.read() == {}
    listeners.takes_ack(packet, answer)


@promise("request.ack-number")
@each_family
def test_ack_of_something_else_is_reset(listeners: Listeners, family: Family) -> None:
    """An ACK of what was not sent is reset by the request's listener, without the program; the request goes on."""
    packet, answer = listeners.syn()
    listeners.program.new_results()
    wrong = frames.ack(packet, sequence=SYN_SEQUENCE + 1, acknowledge=(answer.sequence + 2) & 0xFFFFFFFF)
    assert listeners.bench.send_frames(wrong) == [ReplyKind.RESET]
    assert listeners.program.new_results() == {}
    listeners.takes_ack(packet, answer)


@promise("request.window")
@each_family
def test_ack_outside_the_window_is_acknowledged(listeners: Listeners, family: Family) -> None:
    """An ACK whose sequence number is outside the window is answered by an ACK, and the request goes on."""
    packet, answer = listeners.syn()
    before = segments()
    far = frames.ack(packet, sequence=SYN_SEQUENCE + (1 << 30), acknowledge=answer.sequence + 1 & 0xFFFFFFFF)
    assert listeners.bench.send_frames(far) == []
    assert segments() == before + 1
    assert listeners.bench.read() == {}
    listeners.takes_ack(packet, answer)


@promise("request.timestamp")
@each_family
def test_ack_with_an_older_timestamp_is_acknowledged(listeners: Listeners, family: Family) -> None:
    """An ACK with an older timestamp than the SYN's is answered by an ACK (PAWS, RFC 7323), and the request goes on."""
    bench = listeners.bench
    packet = bench.packet(0, Protocol.TCP, family)
    answer = bench.send_syn(packet, syn_with_option(packet, TIMESTAMPS, struct.pack("!II", 1000, 0)))
    before, rejected = segments(), counter("TcpExtPAWSEstab")
    for value, taken in ((999, False), (1000, True)):
        content = struct.pack("!I", value) + option_of(answer.options, TIMESTAMPS)[:4]
        numbers = {"sequence": SYN_SEQUENCE + 1, "acknowledge": answer.sequence + 1}
        assert bench.send_frames(segment_with_option(packet, uapi.TCP_ACK, TIMESTAMPS, content, **numbers)) == []
        if not taken:
            assert (segments(), counter("TcpExtPAWSEstab")) == (before + 1, rejected + 1)
        assert set(bench.read()) == ({0} if taken else set())


@promise("request.deferred")
@each_family
def test_ack_without_data_is_not_what_a_deferring_listener_waits_for(listeners: Listeners, family: Family) -> None:
    """With TCP_DEFER_ACCEPT, an option of the member that was selected, a request waits for an ACK with data."""
    bench = listeners.bench
    bench[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
    packet, answer = listeners.syn(0)
    before = counter("TcpExtTCPDeferAcceptDrop")
    listeners.refuses_ack(packet, answer)
    assert counter("TcpExtTCPDeferAcceptDrop") == before + 1
    assert bench.send_ack(packet, answer, b"data") == []
    assert set(bench.read()) == {0}
    packet, answer = listeners.syn(1)
    assert bench.send_ack(packet, answer) == []
    assert set(bench.read()) == {1}


@promise("request.filter")
@each_family
def test_filter_of_the_selected_listener_drops(listeners: Listeners, family: Family) -> None:
    """A listener's own filter drops what the program selected it for, SYN or ACK, and no other member gets it."""
    bench = listeners.bench
    packet, answer = listeners.syn(0)
    attach_classic(bench[0], returning(0), option=uapi.SO_ATTACH_FILTER)
    listeners.refuses_ack(packet, answer)
    listeners.program.new_results()
    assert bench.send_and_capture(bench.packet(0, Protocol.TCP, family)) == []
    assert bench.send_and_find(bench.packet(1, Protocol.TCP, family)) == 1
    assert listeners.program.new_results() == {Result.PASS: 2}
    bench.set_option(0, SO_DETACH_FILTER, 0)
    listeners.takes_ack(packet, answer)


@promise("request.hops")
@each_family
def test_packet_from_too_far_is_lost_at_the_selected_listener(listeners: Listeners, family: Family) -> None:
    """A SYN with fewer hops left than the selected listener wants (RFC 5082) is lost, and no other member gets it."""
    bench = listeners.bench
    bench[0].setsockopt(*MINIMUM[family], 255)
    before = counter("TcpExtTCPMinTTLDrop")
    assert bench.send_and_capture(bench.packet(0, Protocol.TCP, family)) == []
    assert counter("TcpExtTCPMinTTLDrop") == before + 1
    assert bench.send_and_find(bench.packet(1, Protocol.TCP, family)) == 1
    assert listeners.program.new_results() == {Result.PASS: 2}


@promise("request.full-queue")
@each_family
@pytest.mark.parametrize("resets", [False, True], ids=["waits", "resets"])
def test_ack_for_a_full_queue_goes_to_no_other_member(listeners: Listeners, family: Family, resets: bool) -> None:
    """A connection for which the selected listener's queue has no place goes to no other member.

    The request waits, and may be completed when there is a place; with net.ipv4.tcp_abort_on_overflow it is reset.
    """
    bench = listeners.bench
    bench.wire.settings.set("net/ipv4/tcp_abort_on_overflow", int(resets))
    bench[0].listen(BACKLOG)
    for _ in range(BACKLOG):
        assert bench.send_ack(*listeners.syn()) == []
    last, late = listeners.syn(), listeners.syn()
    assert bench.send_ack(*last) == []
    before = counter("TcpExtListenOverflows")
    assert bench.send_ack(*late) == ([ReplyKind.RESET] if resets else [])
    assert counter("TcpExtListenOverflows") == before + 1
    held = bench.read()
    assert {number: len(each) for number, each in held.items()} == {0: BACKLOG + 1}
    if resets:
        assert bench.send_ack(*late) == [ReplyKind.RESET]
        assert bench.read() == {}
    else:
        listeners.takes_ack(*late)
