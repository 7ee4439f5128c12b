# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The ways in which requests and connections migrate: by shutdown(), over several hops, by the request's own timer.

cases/test_migration.py has what is chosen, seen and woken when a listener is closed.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family, ledger, promise, requires
from harness.group.netstat import counter
from harness.group.timers import early_syn_ack_timer, late_syn_ack_timer
from harness.kernel.refusal import refused
from harness.model.addresses import packed
from harness.model.layout import Family, Protocol
from harness.model.malformed import Malformation
from harness.model.outcome import Reply, ReplyKind
from harness.model.packets import SYN_SEQUENCE
from harness.wire import frames
from harness.wire.headers import ETHERNET_HEADER
from harness.wire.replies import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import Bench, LoadProgram, Packet, Program


pytestmark = requires("select_or_migrate", "migrating_sk", "get_socket_cookie")

SIZE = 4
LOST_SECONDS = 20
"""After which a SYN-ACK that is due every 25 jiffies, and twice as long each time, does not come any more."""

NEW_SYN_RECV = 12  # include/net/tcp_states.h
SYSCTL = "net/ipv4/tcp_migrate_req"
IPV6_2292PKTOPTIONS = 6  # include/uapi/linux/in6.h
TCP_SAVE_SYN, TCP_SAVED_SYN = 27, 28  # include/uapi/linux/tcp.h
HOP_LIMIT = 33
HOP_LIMIT_OPTION = {
    Family.IPV4: (socket.IPPROTO_IP, socket.IP_TTL),
    Family.IPV6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
}
HOP_LIMIT_AT = {Family.IPV4: ETHERNET_HEADER + 8, Family.IPV6: ETHERNET_HEADER + 7}
TOTAL_RETRANS = 100
"""Offset of tcpi_total_retrans in struct tcp_info (include/uapi/linux/tcp.h)."""
NETWORK_HEADER = {Family.IPV4: 20, Family.IPV6: 40}
RECORD_ROUTE = bytes([7, 7, 4, 0, 0, 0, 0, 0])  # with room for one address, and the end of options
CMSG_HEADER = 16
"""Bytes of a struct cmsghdr, of a 64-bit machine."""

SUCCESS, FAILURE = "TcpExtTCPMigrateReqSuccess", "TcpExtTCPMigrateReqFailure"


@dataclass
class Migrating:
    """Listeners 0 to 3 of one group, and the program that tells where what is left of one goes."""

    bench: Bench
    program: Program
    family: Family
    _before: int = field(init=False, default_factory=lambda: counter(SUCCESS))

    def successes(self) -> int:
        """Return how many migrations have succeeded since this was made (TCPMigrateReqSuccess)."""
        return counter(SUCCESS) - self._before

    def to(self, target: int) -> None:
        """Let everything migrate to that listener from now on."""
        self.program.state = target

    def syn(self, index: int = 0) -> tuple[Packet, Reply]:
        """Send a SYN with data to a listener; return the packet and the SYN-ACK."""
        packet = self.bench.packet(index, Protocol.TCP, self.family)
        return packet, self.bench.send_syn(packet)

    def ack(self, packet: Packet, answer: Reply, data: bytes) -> None:
        """Complete a handshake with data."""
        assert self.bench.send_ack(packet, answer, data) == []

    def received(self) -> dict[int, bytes]:
        """Return what the one connection of each listener that has one has received."""
        held = self.bench.read()
        connections = self.bench.take_connections()
        assert [len(each) for each in held.values()] == [1] * len(connections)
        try:
            return {number: each.recv(100) for number, each in zip(held, connections, strict=True)}
        finally:
            for each in connections:
                each.close()

    def accepted(self, packet: Packet, answer: Reply) -> socket.socket:
        """Complete a handshake; return the one connection that came of it."""
        self.ack(packet, answer, b"data")
        self.bench.read()
        (connection,) = self.bench.take_connections()
        return connection

    def syn_acks(self, packet: Packet) -> list[bytes]:
        """Return the frames of all SYN-ACKs to a packet, in the order they came."""
        came = [(parse(frame.data), frame.data) for frame in self.bench.wire.seen if not frame.sent]
        return [
            data
            for reply, data in came
            if isinstance(reply, Reply) and (reply.kind, reply.port) == (ReplyKind.SYN_ACK, packet.source_port)
        ]

    def fallen_due(self, packet: Packet) -> Reply:
        """Wait until the SYN-ACK to a packet is sent again; return it."""
        until = time.monotonic() + LOST_SECONDS
        while time.monotonic() < until:
            for reply in self.bench.wire.read_replies():
                if (reply.kind, reply.port) == (ReplyKind.SYN_ACK, packet.source_port):
                    return reply
        raise AssertionError(f"the SYN-ACK to port {packet.source_port} was not sent again within {LOST_SECONDS} s")


@pytest.fixture
def migrating(bench: Bench, load_for_test: LoadProgram, family: Family) -> Migrating:
    """Return four listeners in slots 0 to 3 of a program that selects for migration."""
    members = bench.group(SIZE, Protocol.TCP, family)
    program = load_for_test("migrate", size=SIZE)
    bench.attach(members[0], program)
    bench.fill(program.inner, members)
    return Migrating(bench, program, family)


@pytest.fixture
def timer(wire: object) -> Iterator[None]:
    """Let SYN-ACKs be sent again soon for as long as the case takes; before the listeners are made."""
    with early_syn_ack_timer():
        yield


@pytest.fixture
def late_timer(wire: object) -> Iterator[None]:
    """Let no SYN-ACK be sent again for as long as the case takes; before the listeners are made."""
    with late_syn_ack_timer():
        yield


@promise("migration-path.shutdown")
@each_family
@pytest.mark.parametrize("complete", [True, False], ids=["established", "request"])
def test_shutdown_migrates_as_close_does(migrating: Migrating, family: Family, complete: bool) -> None:
    """A listener that is shut down gives away what it has not accepted; it is out of its slot, and may listen again.

    `inet_csk_listen_stop` runs for both; the socket stays among the group's closed ones (`reuseport_stop_listen_sock`).
    """
    bench = migrating.bench
    packet, answer = migrating.syn()
    if complete:
        migrating.ack(packet, answer, b"data")
    migrating.to(2)
    bench[0].shutdown(socket.SHUT_RDWR)
    if not complete:
        migrating.ack(packet, answer, b"data")
    assert migrating.received() == {2: b"data"}
    assert migrating.successes() == 1
    assert bench.send_and_find(bench.packet(2, Protocol.TCP, family)) == 2, "a queue of -1 counts as full"
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) is None
    bench[0].listen(8)
    bench.fill(migrating.program.inner, [0])
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == 0


@promise("migration-path.hops")
@each_family
@pytest.mark.parametrize("fast_open", [False, True], ids=["established", "fast-open"])
def test_connection_migrates_over_several_hops(migrating: Migrating, family: Family, fast_open: bool) -> None:
    """A connection that nobody accepts may migrate again and again, with its data, and back to one that listens anew.

    `inet_reqsk_clone` makes another request each time.
    """
    bench = migrating.bench
    if fast_open:
        bench.wire.settings.allow_fast_open()
        for number in range(SIZE):
            bench.allow_fast_open(number)
    packet, answer = migrating.syn()
    if not fast_open:
        migrating.ack(packet, answer, b"data")
    for here, there in pairwise([0, 1, 2, 3]):
        migrating.to(there)
        bench[here].shutdown(socket.SHUT_RDWR)
    bench[0].listen(8)
    bench.fill(migrating.program.inner, [0])
    migrating.to(0)
    bench[3].shutdown(socket.SHUT_RDWR)
    if fast_open:
        migrating.ack(packet, answer, b"data")
    assert migrating.received() == {0: packet.payload + b"data" if fast_open else b"data"}
    assert migrating.successes() == 4


@promise("migration-path.timer")
@each_family
def test_request_migrates_as_its_timer_goes_off(timer: None, migrating: Migrating, family: Family) -> None:
    """A request whose listener is gone migrates when its SYN-ACK is due again; its new listener sends that.

    The ACK then finds it there. The program sees no packet (`reqsk_timer_handler`).
    """
    bench = migrating.bench
    packet, answer = migrating.syn()
    migrating.to(3)
    bench[0].close()
    assert migrating.fallen_due(packet).sequence == answer.sequence
    assert migrating.successes() == 1
    migrating.to(2)
    migrating.ack(packet, answer, b"data")
    assert migrating.received() == {3: b"data"}
    assert bench.send_and_find(bench.packet(3, Protocol.TCP, family)) == 3, "a queue of -1 counts as full"
    seen = migrating.program.migration()
    assert (seen.state, seen.count) == (NEW_SYN_RECV, 1)
    assert (seen.length, seen.eth_protocol, seen.linear, seen.error) == (0, 0, 0, 0)


@promise("migration-path.timer-hop-limit")
@each_family
def test_syn_ack_that_is_sent_again_is_like_the_new_listeners(
    timer: None, migrating: Migrating, family: Family
) -> None:
    """A SYN-ACK that is sent again has the hop limit of the listener that the request migrated to.

    It takes more from its listener; this is a byte that a case can set (IP_TTL, IPV6_UNICAST_HOPS).
    """
    bench = migrating.bench
    bench[3].setsockopt(*HOP_LIMIT_OPTION[family], HOP_LIMIT)
    packet, _ = migrating.syn()
    migrating.to(3)
    bench[0].close()
    migrating.fallen_due(packet)
    first, *later = (frame[HOP_LIMIT_AT[family]] for frame in migrating.syn_acks(packet))
    assert first != HOP_LIMIT
    assert set(later) == {HOP_LIMIT}


@promise("migration-path.timer-counted")
@each_family
def test_connection_counts_the_syn_acks_that_were_sent_again(timer: None, migrating: Migrating, family: Family) -> None:
    """TCP_INFO of a connection counts each SYN-ACK that was sent again, one with which its request migrated too."""
    packet, answer = migrating.syn()
    migrating.to(1)
    migrating.bench[0].close()
    migrating.fallen_due(packet)
    with migrating.accepted(packet, answer) as connection:
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TOTAL_RETRANS + 4)
    assert struct.unpack_from("=I", information, TOTAL_RETRANS) == (len(migrating.syn_acks(packet)) - 1,)


@promise("migration-path.timer-hops")
@each_family
def test_request_migrates_by_its_timer_and_then_by_its_ack(timer: None, migrating: Migrating, family: Family) -> None:
    """A request that migrated by its timer migrates again by its timer, and at last by its ACK."""
    bench = migrating.bench
    packet, answer = migrating.syn()
    for here, there in ((0, 1), (1, 2)):
        migrating.to(there)
        bench[here].shutdown(socket.SHUT_RDWR)
        migrating.fallen_due(packet)
    migrating.to(3)
    bench[2].close()
    migrating.ack(packet, answer, b"data")
    assert migrating.received() == {3: b"data"}
    assert migrating.successes() == 3


@promise("migration-path.timer-expired")
@ledger("K31")
@each_family
def test_request_that_expires_as_it_migrates_leaves_the_queue_as_it_was(
    timer: None, migrating: Migrating, family: Family
) -> None:
    """A request that has no SYN-ACK left when it migrates is dropped, and its new listener still takes SYNs.

    With the bug the new listener's queue is counted down once too often, and a queue of -1 counts as full
    (`reqsk_timer_handler`, 7eca3292cac7).
    """
    bench = migrating.bench
    before = counter(FAILURE)
    packet, _ = migrating.syn()
    migrating.fallen_due(packet)
    bench[1].setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
    migrating.to(1)
    bench[0].close()
    while counter(FAILURE) == before:
        bench.wire.read_replies()
    assert bench.send_and_find(bench.packet(1, Protocol.TCP, family)) == 1


@promise("migration-path.reset")
@ledger("K45")
@each_family
def test_request_that_is_reset_as_it_migrates_leaves_the_queue_as_it_was(
    late_timer: None, migrating: Migrating, family: Family
) -> None:
    """A request that the peer resets once its listener is gone ends, and the listener chosen for it still takes SYNs.

    With the bug that listener's queue is counted down for a request that was never in it, and a queue of -1 counts as
    full (`tcp_check_req`).
    """
    bench = migrating.bench
    packet, _ = migrating.syn()
    migrating.to(1)
    bench[0].close()
    assert bench.wire.send(frames.reset(packet, sequence=SYN_SEQUENCE + 1)) == []
    assert (migrating.program.migration().count, migrating.successes()) == (1, 0)
    assert bench.send_and_find(bench.packet(1, Protocol.TCP, family)) == 1


@promise("migration-path.fast-open-limit")
@ledger("K30")
@each_family
def test_pending_fast_open_counts_where_it_migrated(migrating: Migrating, family: Family) -> None:
    """A pending fast-open connection counts towards TCP_FASTOPEN's limit of the listener that it migrated to.

    With the bug it is counted down there without having been counted: the limit of 1 lets a second one pass
    (`inet_reqsk_clone`, `reqsk_fastopen_remove`).
    """
    bench = migrating.bench
    bench.wire.settings.allow_fast_open()
    bench.allow_fast_open(0)
    bench[1].setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 1)
    packet, answer = migrating.syn()
    migrating.to(1)
    bench[0].close()
    migrating.ack(packet, answer, b"data")
    assert migrating.received() == {1: packet.payload + b"data"}
    pending = [migrating.syn(1) for _ in range(3)]
    taken = [answer.ack == SYN_SEQUENCE + 1 + len(packet.payload) for packet, answer in pending]
    for packet, answer in pending:  # their timers would count as failed migrations in the next case
        bench.wire.send(frames.reset(packet, sequence=SYN_SEQUENCE + 1 if answer.ack is None else answer.ack))
    assert taken == [True, False, False]


@promise("migration-path.full-queue")
@each_family
def test_request_waits_where_the_queue_that_it_migrates_to_is_full(
    late_timer: None, migrating: Migrating, family: Family
) -> None:
    """A request that would migrate to a listener whose queue is full stays, and may migrate when there is a place.

    The failure is counted (`tcp_check_req`).
    """
    bench = migrating.bench
    packet, answer = migrating.syn(0)
    bench[1].listen(1)
    for _ in range(2):
        assert bench.send_ack(*migrating.syn(1)) == []
    migrating.to(1)
    bench[0].close()
    before = counter(FAILURE)
    migrating.ack(packet, answer, b"data")
    assert (counter(FAILURE), migrating.successes()) == (before + 1, 0)
    assert {number: len(each) for number, each in bench.read().items()} == {1: 2}
    bench.reset_connections()
    migrating.ack(packet, answer, b"data")
    assert migrating.received() == {1: b"data"}
    assert (counter(FAILURE), migrating.successes()) == (before + 1, 1)


@promise("migration-path.switched-off")
@requires("tcp_migrate_req")
@each_family
@pytest.mark.parametrize("by", ["sysctl", "program"])
def test_request_does_not_migrate_once_that_is_switched_off(
    late_timer: None, bench: Bench, load_for_test: LoadProgram, family: Family, by: str
) -> None:
    """A request of a closed listener is reset if migration is switched off before its ACK comes; that is counted.

    The listener had closed as one that gives its requests away (`reuseport_migrate_sock`).
    """
    first = bench.open(Protocol.TCP, family)
    packet = bench.packet(0, Protocol.TCP, family)
    answer = bench.send_syn(packet)
    second = bench.open(Protocol.TCP, family)
    if by == "sysctl":
        bench.wire.settings.set(SYSCTL, 1)
    else:
        bench.attach(second, load_for_test("migrate", size=2))
    bench[first].close()
    if by == "sysctl":
        bench.wire.settings.set(SYSCTL, 0)
    else:
        bench.detach(second)
    before = counter(FAILURE)
    assert bench.send_ack(packet, answer, b"data") == [ReplyKind.RESET]
    assert counter(FAILURE) == before + 1
    assert bench.read() == {}


@promise("migration-path.packet-information")
@pytest.mark.parametrize("family", [Family.IPV6])
@pytest.mark.parametrize("by", ["ack", "timer"])
def test_information_on_the_syn_migrates_with_the_request(
    timer: None, migrating: Migrating, family: Family, by: str
) -> None:
    """What a listener with IPV6_RECVPKTINFO keeps of a SYN goes with the request: the address that it was sent to.

    The connection tells it by IPV6_2292PKTOPTIONS (`tcp_v6_syn_recv_sock`); without the SYN it would tell the peer's.
    """
    bench = migrating.bench
    for number in range(SIZE):
        bench[number].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    packet, answer = migrating.syn(0)
    migrating.to(1)
    bench[0].close()
    if by == "timer":
        migrating.fallen_due(packet)
    migrating.ack(packet, answer, b"data")
    assert set(bench.read()) == {1}
    (connection,) = bench.take_connections()
    with connection:
        told = connection.getsockopt(socket.IPPROTO_IPV6, IPV6_2292PKTOPTIONS, 256)
    assert told[CMSG_HEADER : CMSG_HEADER + 16] == packed(family.server)
    assert migrating.successes() == 1


@promise("migration-path.saved-syn")
@each_family
def test_saved_syn_migrates_with_the_request(timer: None, migrating: Migrating, family: Family) -> None:
    """The headers of a SYN that a listener keeps (TCP_SAVE_SYN) go with the request; its connection tells them."""
    bench = migrating.bench
    for number in range(SIZE):
        bench[number].setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)
    packet, answer = migrating.syn()
    migrating.to(1)
    bench[0].close()
    migrating.fallen_due(packet)
    connection = migrating.accepted(packet, answer)
    with connection:
        saved = connection.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, 256)
    (frame,) = frames.syn(packet)
    assert saved + packet.payload == frame[len(frame) - len(saved) - len(packet.payload) :]
    assert len(saved) >= NETWORK_HEADER[family] + 20


@promise("migration-path.ipv4-options")
@pytest.mark.parametrize("family", [Family.IPV4])
@pytest.mark.parametrize("by", ["ack", "timer"])
def test_ipv4_options_of_the_syn_migrate_with_the_request(
    timer: None, migrating: Migrating, family: Family, by: str
) -> None:
    """What a SYN asked for by an IPv4 option goes with the request: the connection records its route (IP_OPTIONS)."""
    bench = migrating.bench
    packet = bench.packet(0, Protocol.TCP, family, malformation=Malformation(ipv4_options=RECORD_ROUTE))
    answer = bench.send_syn(packet)
    migrating.to(1)
    bench[0].close()
    if by == "timer":
        migrating.fallen_due(packet)
    with migrating.accepted(packet, answer) as connection:
        told = connection.getsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, 40)
    assert (told[0], len(told)) == (RECORD_ROUTE[0], len(RECORD_ROUTE))


@promise("migration-path.no-port")
@each_family
def test_listener_without_a_port_of_its_own_listens_elsewhere(
    bench: Bench, load_for_test: LoadProgram, family: Family
) -> None:
    """A listener that bound port 0 loses its port by shutdown(): it listens again on another one, in no old group.

    What it had not accepted migrated; the group keeps its program, the listener has none (`reuseport_resurrect`).
    """
    first = bench.open(Protocol.TCP, family, bind=False)
    bench[first].bind((family.any, 0))
    bench.port = bench[first].getsockname()[1]
    bench[first].listen(8)
    second = bench.open(Protocol.TCP, family)
    program = load_for_test("migrate", size=2)
    bench.attach(first, program)
    bench.fill(program.inner, [first, second])
    migrating = Migrating(bench, program, family)
    packet, answer = migrating.syn(0)
    migrating.ack(packet, answer, b"data")
    migrating.to(1)
    bench[first].shutdown(socket.SHUT_RDWR)
    assert migrating.received() == {second: b"data"}
    bench[first].listen(8)
    elsewhere = bench[first].getsockname()[1]
    assert elsewhere != bench.port
    assert bench.send_and_find(bench.packet(1, Protocol.TCP, family, destination_port=elsewhere)) == first
    assert bench.send_and_find(bench.packet(1, Protocol.TCP, family)) == second
    with refused(errno.ENOENT):
        bench.detach(first)
    bench.detach(second)
