# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Connections of fast open whose handshake is not complete: each listener has a limit of its own (RFC 7413, 5.1).

The program selects the listener, and that one alone takes the data of the SYN or does not.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.cases import each_family, promise
from harness.group.netstat import counter
from harness.kernel.refusal import refused
from harness.model.abi import Result
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind
from harness.model.packets import SYN_SEQUENCE
from harness.wire import frames

if TYPE_CHECKING:
    from harness.cases import AttachReference, Bench, Packet, Program
    from harness.model.outcome import Reply

LIMIT = 1
OVERFLOW = "TcpExtTCPFastOpenListenOverflow"


class Listeners(NamedTuple):
    """Listeners 0 and 1 of one group, in these slots, which may have one pending connection each."""

    bench: Bench
    program: Program
    family: Family

    def open(self, index: int) -> tuple[Packet, Reply]:
        """Send a SYN with data to a listener; return the packet and the SYN-ACK."""
        packet = self.bench.packet(index, Protocol.TCP, self.family)
        return packet, self.bench.send_syn(packet)

    def take_data(self, index: int) -> bool:
        """Tell whether a listener takes the data of a SYN."""
        packet, answer = self.open(index)
        return answer.ack == behind(packet)


def behind(packet: Packet) -> int:
    """Return the sequence number behind a SYN and its data."""
    return SYN_SEQUENCE + 1 + len(packet.payload)


@pytest.fixture
def listeners(bench: Bench, attach_reference: AttachReference, family: Family) -> Listeners:
    """Return the two listeners."""
    bench.wire.settings.allow_fast_open()
    numbers = bench.group(2, Protocol.TCP, family)
    for number in numbers:
        bench[number].setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, LIMIT)
    return Listeners(bench, attach_reference(numbers), family)


@promise("fast-open-pending.limit")
@each_family
def test_limit_is_the_listeners(listeners: Listeners, family: Family) -> None:
    """A listener with as many pending connections as it may have takes no more data in a SYN, and another one does."""
    before = counter(OVERFLOW)
    packet, answer = listeners.open(0)
    assert answer.ack == behind(packet)
    assert not listeners.take_data(0)
    assert counter(OVERFLOW) == before + 1
    assert listeners.take_data(1)
    assert listeners.bench.send_ack(packet, answer) == []
    assert listeners.take_data(0), "what is complete is not pending"


@promise("fast-open-pending.repeated")
@each_family
def test_repeated_syn_is_answered_by_the_connection(listeners: Listeners, family: Family) -> None:
    """A repeated SYN of a pending connection is answered again, without the program; its data comes once."""
    packet, first = listeners.open(0)
    listeners.program.new_results()
    again = listeners.bench.send_syn(packet)
    assert (again.ack, again.sequence) == (first.ack, first.sequence) == (behind(packet), again.sequence)
    assert listeners.program.new_results() == {}
    assert set(listeners.bench.read()) == {0}
    (connection,) = listeners.bench.take_connections()
    with connection:
        assert connection.recv(100) == packet.payload


@promise("fast-open-pending.reset")
@each_family
def test_connection_that_is_reset_counts_as_pending(listeners: Listeners, family: Family) -> None:
    """A pending connection that was accepted and is then reset goes on counting for a minute, for its listener alone.

    It may have had a forged sender (`reqsk_fastopen_remove`). The connection ends; the listener can be closed before.
    """
    bench = listeners.bench
    packet, _ = listeners.open(0)
    assert set(bench.read()) == {0}
    (connection,) = bench.take_connections()
    connection.setblocking(False)
    with connection:
        assert bench.wire.send(frames.reset(packet, sequence=behind(packet))) == []
        assert connection.recv(100) == packet.payload
        with refused(errno.ECONNRESET):
            connection.recv(100)
    before = counter(OVERFLOW)
    assert not listeners.take_data(0)
    assert counter(OVERFLOW) == before + 1
    assert listeners.take_data(1)
    bench[0].close()
    bench.wire.read_replies()
    listeners.program.new_results()
    assert bench.send_and_capture(bench.packet(0, Protocol.TCP, family)) == [ReplyKind.RESET]
    assert listeners.program.new_results() == {Result.DROP_ERR_SK_SELECT_REUSEPORT: 1}
