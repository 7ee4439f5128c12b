# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A listener closes, and what was not accepted of it moves to another member (Linux 5.14, net.ipv4.tcp_migrate_req).

Three things can move: a request that waits for its ACK, a connection that waits to be accepted, and one of fast open
that waits for both. The frames alone decide which of them it is, as the sender keeps the ACK back.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cases import in_sockarray, on_wildcard, place_by_hash, promise, requires, shapes, tcp
from harness.group.netstat import counter
from harness.group.timers import late_syn_ack_timer
from harness.model.abi import BY_HASH, REFUSE, Migration, pack_command
from harness.model.layout import Bind
from harness.model.outcome import ReplyKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.cases import (
        DeliverTo,
        Delivery,
        Handshake,
        LoadProgram,
        MakeGroup,
        Packet,
        ReuseportGroup,
        Wire,
    )
    from harness.model.layout import Shape


pytestmark = [tcp, in_sockarray]
needs_sysctl = requires("tcp_migrate_req")
needs_program = requires("select_or_migrate", "migrating_sk", "get_socket_cookie")

SYSCTL = "net/ipv4/tcp_migrate_req"
SIZE = 6
CLOSING, TARGET, EMPTY = 0, 4, 5
WAKE_SECONDS = 10.0  # how long a thread may sleep before it counts as not woken; never waited out by one that is


class Point(Enum):
    """The state in which a socket migrates, by its number in the kernel (include/net/tcp_states.h)."""

    REQUEST = 12  # TCP_NEW_SYN_RECV: the ACK is still to come
    ESTABLISHED = 1  # nobody has accepted it yet
    FAST_OPEN = 3  # TCP_SYN_RECV: data came with the SYN, the ACK is still to come


each_point = pytest.mark.parametrize("point", Point, ids=lambda point: point.name.lower())


@dataclass(frozen=True)
class Counters:
    """TCPMigrateReqSuccess and TCPMigrateReqFailure of the server's namespace."""

    success: int
    failure: int

    @classmethod
    def read(cls) -> Counters:
        """Read both."""
        return cls(counter("TcpExtTCPMigrateReqSuccess"), counter("TcpExtTCPMigrateReqFailure"))

    def since(self, before: Counters) -> Counters:
        """Return by how much both have grown."""
        return Counters(self.success - before.success, self.failure - before.failure)


def reach(point: Point, group: ReuseportGroup, deliver: Delivery, packet: Packet | None = None) -> Handshake:
    """Bring a connection on the listener that closes to the point where it will migrate."""
    if point is Point.FAST_OPEN:
        group.allow_fast_open()
    handshake = deliver.send_syn(packet or deliver.command(CLOSING))
    assert [reply.kind for reply in handshake.replies] == [ReplyKind.SYN_ACK]
    if point is Point.ESTABLISHED:
        assert deliver.send_ack(handshake, b"early") == []
    return handshake


def finish(point: Point, deliver: Delivery, handshake: Handshake) -> list[ReplyKind]:
    """Send the ACK that was kept back, if it was; return the kinds of all replies since the listener closed."""
    replies = deliver.read_replies()
    if point is not Point.ESTABLISHED:
        replies += deliver.send_ack(handshake, b"late")
    return [reply.kind for reply in replies]


def held(point: Point) -> bytes:
    """Return the data that the connection brings with it."""
    return {
        Point.REQUEST: b"late",
        Point.ESTABLISHED: b"early",
        Point.FAST_OPEN: pack_command(CLOSING) + b"late",
    }[point]


def by_hash(group: ReuseportGroup, hash_: int) -> int:
    """Return the member on which the hash of what migrates falls; it is another hash than that of its packets."""
    members = group.layout.members
    return members[place_by_hash(hash_, len(members))]


def make(make_group: MakeGroup, shape: Shape, target: int) -> ReuseportGroup:
    """Make a group whose program gives what migrates to the target; one slot of its map is empty."""
    group = make_group(shape, program="migrate", size=SIZE)
    group.clear_slot(EMPTY)
    group.program.state = target
    return group


@promise("migration.target")
@needs_program
@each_point
def test_program_chooses_the_migration_target(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape, point: Point
) -> None:
    """With SELECT_OR_MIGRATE the program chooses the listener that a connection migrates to, with all its data.

    The program is shown the closing listener as `sk`, what migrates as `migrating_sk`, and of a packet only the ACK
    that made a request migrate: when the close itself is the reason there is none, and all its fields are 0.
    """
    group = make(make_group, shape, TARGET)
    deliver = delivery_to(group)
    before, cookie = Counters.read(), group.cookie(CLOSING)
    handshake = reach(point, group, deliver)
    group.leave(CLOSING)
    assert finish(point, deliver, handshake) == []
    assert group.collect() == {TARGET: (held(point),)}
    assert Counters.read().since(before) == Counters(1, 0)
    by_packet = point is Point.REQUEST
    length = 20 + len(b"late") if by_packet else 0
    assert group.program.migration() == Migration(
        listener=cookie,
        state=point.value,
        count=1,
        length=length,
        eth_protocol=socket.htons(shape.family.eth_protocol) if by_packet else 0,
        linear=length,
        error=0,
    )


@promise("migration.hash")
@needs_program
@each_point
def test_program_that_selects_nobody_leaves_the_migration_target_to_the_hash(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape, point: Point
) -> None:
    """SK_PASS without a selection leaves the migration target to the hash, over the remaining members."""
    group = make(make_group, shape, BY_HASH)
    deliver = delivery_to(group)
    before = Counters.read()
    handshake = reach(point, group, deliver)
    group.leave(CLOSING)
    assert finish(point, deliver, handshake) == []
    seen = group.program.migration()
    assert seen.count == 1
    assert group.collect() == {by_hash(group, seen.hash): (held(point),)}
    assert Counters.read().since(before) == Counters(1, 0)


@promise("migration.same-hash")
@needs_program
@shapes(bind=Bind.SPECIFIC)
@each_point
def test_what_migrates_has_the_hash_that_its_syn_had(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape, point: Point
) -> None:
    """What migrates from a listener on an address has the hash that the program saw of its SYN: the four-tuple's.

    The one is computed for the lookup of the listener, the other as the request is filed. For a group on the wildcard
    they differ: the wildcard stands for the destination address then (`inet_lhash2_lookup`).
    """
    group = make(make_group, shape, BY_HASH)
    deliver = delivery_to(group)
    handshake = reach(point, group, deliver)
    _, of_the_syn = group.program.context()
    group.leave(CLOSING)
    finish(point, deliver, handshake)
    assert group.program.migration().hash == of_the_syn


@promise("migration.drop")
@needs_program
@each_point
@pytest.mark.parametrize(("target", "error"), [(REFUSE, 0), (EMPTY, -errno.ENOENT), (SIZE, -errno.ENOENT)])
def test_program_that_drops_resets_the_connection(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape, point: Point, target: int, error: int
) -> None:
    """A program that drops, also because it found no target, resets the connection that would migrate."""
    group = make(make_group, shape, target)
    deliver = delivery_to(group)
    before = Counters.read()
    handshake = reach(point, group, deliver)
    group.leave(CLOSING)
    assert ReplyKind.RESET in finish(point, deliver, handshake)
    assert group.collect() == {}
    assert Counters.read().since(before) == Counters(0, 1)
    seen = group.program.migration()
    assert (seen.count, seen.error) == (1, error)


@promise("migration.sysctl")
@needs_program
@needs_sysctl
@each_point
@pytest.mark.parametrize("attached", [True, False], ids=["program-for-selection", "no-program"])
def test_sysctl_lets_the_hash_choose_the_migration_target(
    make_group: MakeGroup,
    delivery_to: DeliverTo,
    load_for_test: LoadProgram,
    wire: Wire,
    shape: Shape,
    point: Point,
    attached: bool,
) -> None:
    """With tcp_migrate_req a connection migrates to the member on which its hash falls, over those that are left.

    A program that was not loaded for migration is not asked, and none is needed. The hash is learnt beforehand, from
    a connection of the same four-tuple that migrated under a program which saw it.
    """
    group = make(make_group, shape, BY_HASH)
    deliver = delivery_to(group)
    packet = deliver.command(CLOSING)
    handshake = reach(point, group, deliver, packet)
    group.leave(CLOSING)
    finish(point, deliver, handshake)
    hash_ = group.program.migration().hash
    group.collect()
    deliver.reset_connections()

    group.replace_program(load_for_test("reference", size=SIZE))
    group.restore()
    wire.settings.set(SYSCTL, 1)
    before = Counters.read()
    handshake = reach(point, group, deliver, packet)
    group.program.new_results()
    if not attached:
        group.detach()
    group.leave(CLOSING)
    assert finish(point, deliver, handshake) == []
    assert group.collect() == {by_hash(group, hash_): (held(point),)}
    assert Counters.read().since(before) == Counters(1, 0)
    assert group.program.new_results() == {}


@promise("migration.off")
@each_point
def test_without_migration_a_closing_listener_resets(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape, point: Point
) -> None:
    """Without migration, the default, a listener that closes resets what it has not accepted."""
    group = make_group(shape, size=SIZE)
    deliver = delivery_to(group)
    handshake = reach(point, group, deliver)
    group.leave(CLOSING)
    assert ReplyKind.RESET in finish(point, deliver, handshake)
    assert group.collect() == {}


@promise("migration.alone")
@needs_program
@each_point
def test_no_member_is_left_to_migrate_to(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape, point: Point
) -> None:
    """A connection of a group's only member migrates nowhere: it is reset, and the program does not run."""
    group = make_group(shape, program="migrate", size=1)
    group.program.state = CLOSING
    deliver = delivery_to(group)
    handshake = reach(point, group, deliver)
    group.leave(CLOSING)
    assert ReplyKind.RESET in finish(point, deliver, handshake)
    assert group.program.migration().count == 0


@promise("migration.many")
@needs_program
def test_many_connections_migrate_at_once(make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape) -> None:
    """All that waits migrates at once: forty connections, half of them still without their ACK."""
    with late_syn_ack_timer():
        group = make(make_group, shape, TARGET)
        deliver = delivery_to(group)
        before = Counters.read()
        handshakes = [deliver.send_syn(deliver.command(CLOSING)) for _ in range(40)]
        complete, open_ = handshakes[:20], handshakes[20:]
        assert [deliver.send_ack(each, b"early") for each in complete] == [[]] * 20
        group.leave(CLOSING)
        assert deliver.read_replies() == []
        assert [deliver.send_ack(each, b"late") for each in open_] == [[]] * 20
    assert group.collect() == {TARGET: (b"early",) * 20 + (b"late",) * 20}
    assert Counters.read().since(before) == Counters(40, 0)
    assert group.program.migration().count == 40


def by_epoll(listener: socket.socket) -> None:
    """Sleep in epoll_wait until the listener is ready; AssertionError if the time is over first."""
    with select.epoll() as poll:
        poll.register(listener.fileno(), select.EPOLLIN)
        assert poll.poll(WAKE_SECONDS), "epoll was not woken"


def by_poll(listener: socket.socket) -> None:
    """Sleep in poll until the listener is ready; AssertionError if the time is over first."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    assert poll.poll(WAKE_SECONDS * 1000), "poll was not woken"


def by_accept(listener: socket.socket) -> None:
    """Sleep in accept until there is a connection; BlockingIOError if the time is over first."""
    listener.settimeout(None)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(WAKE_SECONDS), 0))
    connection, _ = listener.accept()
    connection.close()


@promise("migration.wakes")
@needs_program
@on_wildcard
@pytest.mark.parametrize(
    "point",
    [
        Point.REQUEST,  # the ACK ends the handshake on the target, which wakes every listener
        pytest.param(Point.ESTABLISHED, marks=pytest.mark.ledger("K14")),
        pytest.param(Point.FAST_OPEN, marks=pytest.mark.ledger("K14")),
    ],
    ids=lambda point: point.name.lower(),
)
@pytest.mark.parametrize("sleep", [by_epoll, by_poll, by_accept], ids=["epoll", "poll", "accept"])
def test_migration_target_is_woken(
    make_group: MakeGroup,
    delivery_to: DeliverTo,
    shape: Shape,
    point: Point,
    sleep: Callable[[socket.socket], None],
) -> None:
    """A thread that sleeps on the migration target is woken, however it waits (3864c6ba1e04).

    Once their time is over, poll and accept look again, and find what they were not woken for: so it counts when.
    """
    group = make(make_group, shape, TARGET)
    deliver = delivery_to(group)
    handshake = reach(point, group, deliver)
    failed: list[BaseException] = []

    def wait() -> None:
        since = time.monotonic()
        try:
            sleep(group.socket_of(TARGET))
            assert time.monotonic() - since < WAKE_SECONDS * 0.9, "found when the time was over, not woken"
        except (AssertionError, OSError) as error:
            failed.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while thread.is_alive() and not asleep(thread):
        pass
    group.leave(CLOSING)
    finish(point, deliver, handshake)
    thread.join()
    assert failed == []


def asleep(thread: threading.Thread) -> bool:
    """Tell whether a thread sleeps in the kernel."""
    status = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "S"
