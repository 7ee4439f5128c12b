# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Races that once broke a kernel, provoked for a while: two things at once, from a seed, no complaint of the kernel.

A case that passes says "no splat in N s" and no more. `--race-seconds` sets how long each one tries.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cases import INITIAL_SIZE, each_family, each_protocol, ledger, promise, requires
from harness.group.timers import early_syn_ack_timer
from harness.loader import instructions as bpf
from harness.loader.classic_assembler import assemble
from harness.loader.load import load_instructions
from harness.loader.maps import create_map
from harness.loader.program import attach_classic
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind
from harness.model.uapi import BPF_NOEXIST
from harness.wire import frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import Bench, RecordProperty, Wire

pytestmark = [pytest.mark.race, pytest.mark.alone]
Action = Callable[[random.Random], object]
Race = Callable[[Action, Action], None]

MOST_OPEN = 256

SLOW = 400
"""Instructions, of which each dissects a packet: a program that is not much larger is one too large for optmem_max."""

LOOKUPS = 10
"""Of a program for each frame."""


@pytest.fixture
def race(request: pytest.FixtureRequest, wire: Wire, record_property: RecordProperty) -> Race:
    """Return the function that does two things at once for the budget and checks that the kernel did not complain."""
    cpus = wire.cpus
    budget = float(request.config.getoption("--race-seconds"))

    def run(one: Action, other: Action) -> None:
        seed = request.node.name
        tainted = Path("/proc/sys/kernel/tainted").read_text()
        rounds, failure = [0, 0], []
        over = threading.Event()

        def repeat(place: int, action: Action) -> None:
            source = random.Random(f"{seed} {place}")
            os.sched_setaffinity(0, cpus)  # of this thread: the wire's has one CPU to itself
            try:
                while not over.is_set():
                    action(source)
                    rounds[place] += 1
            except OSError as error:
                failure.append(error)
                over.set()

        beside = threading.Thread(target=repeat, args=(1, other))
        beside.start()
        started = time.monotonic()
        source = random.Random(f"{seed} 0")
        try:
            while time.monotonic() - started < budget and not over.is_set():
                one(source)
                rounds[0] += 1
        finally:
            over.set()
            beside.join()
        assert not failure, failure
        record_property("race", f"no splat in {budget:g} s: {rounds[0]} and {rounds[1]} rounds, seed {seed!r}")
        assert Path("/proc/sys/kernel/tainted").read_text() == tainted, "the kernel is tainted: see its log"
        assert min(rounds) > 0, "both halves of a race have to run"

    return run


def join(protocol: Protocol, family: Family, address: str, port: int) -> socket.socket:
    """Return a new member of the group on an address and a port."""
    made = socket.socket(family.address_family, protocol.socket_type)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((address, port))
        if protocol is Protocol.TCP:
            made.listen(8)
    except BaseException:
        made.close()
        raise
    return made


@promise("race.has-conns")
@ledger("K6")
@each_family
def test_connecting_while_the_group_grows(bench: Bench, race: Race, family: Family) -> None:
    """A member that connects while another's bind() makes the group grow still receives from its peer."""
    connected = bench.group(INITIAL_SIZE, Protocol.UDP, family, family.server)[0]

    def connect(source: random.Random) -> None:
        bench[connected].connect((family.peer, source.randrange(500, 510)))

    def grow(source: random.Random) -> None:
        join(Protocol.UDP, family, family.server, bench.port).close()

    race(connect, grow)
    bench[connected].connect((family.peer, 555))
    assert bench.send_and_find(bench.packet(0, Protocol.UDP, family, source_port=555)) == connected


@promise("race.binding-under-traffic")
@ledger("K7")
@each_family
def test_binding_while_everyone_is_connected(bench: Bench, race: Race, family: Family) -> None:
    """Members may join and leave while datagrams are decided and all other members are connected."""
    for number in bench.group(4, Protocol.UDP, family):
        bench[number].connect((family.peer, 500 + number))
    sent = [frame for packet in bench.packets(20, 0, Protocol.UDP, family) for frame in frames.datagram(packet)]

    def bind(source: random.Random) -> None:
        join(Protocol.UDP, family, family.any, bench.port).close()

    race(lambda _: bench.wire.send(sent), bind)


@promise("race.array-and-sockets")
@ledger("K8")
@each_family
@each_protocol
def test_closing_an_array_and_its_sockets(bench: Bench, race: Race, family: Family, protocol: Protocol) -> None:
    """A sockarray may be freed while the sockets in it close."""
    made: list[socket.socket] = []

    def fill(source: random.Random) -> None:
        if len(made) > MOST_OPEN:  # the other half has not had its turn for a while
            os.sched_yield()
            return
        with closing(create_map("sockarray", max_entries=8)) as array:
            for index in range(8):
                member = join(protocol, family, family.any, bench.port)
                array.put(index, member.fileno())
                made.append(member)

    def close(source: random.Random) -> None:
        if made:
            made.pop(source.randrange(len(made))).close()
        else:
            os.sched_yield()

    try:
        race(fill, close)
    finally:
        for member in made:
            member.close()


@promise("race.one-slot")
@each_protocol
def test_filling_and_emptying_one_slot_at_once(bench: Bench, race: Race, protocol: Protocol) -> None:
    """Of two who fill or empty one slot of a sockarray at once, one succeeds: the other is told EEXIST or ENOENT.

    What both saw without the lock is looked at again under it (`reuseport_array_update_check`).
    """
    members = bench.group(2, protocol)
    filled, emptied = [0, 0], [0, 0]
    with closing(create_map("sockarray", max_entries=1)) as array:

        def fill_and_empty(place: int) -> Action:
            def act(source: random.Random) -> None:
                with unless(errno.EEXIST):
                    array.put(0, bench[members[place]].fileno(), flags=BPF_NOEXIST)
                    filled[place] += 1
                with unless(errno.ENOENT):
                    array.remove(0)
                    emptied[place] += 1

            return act

        race(fill_and_empty(0), fill_and_empty(1))
        assert sum(filled) - sum(emptied) == int(array.at(0) is not None)
        with unless(errno.ENOENT):
            array.remove(0)
        for number in members:
            array.put(0, bench[number].fileno())
            array.remove(0)


@contextmanager
def unless(number: int) -> Iterator[None]:
    """Go on after a refusal with that errno."""
    try:
        yield
    except OSError as error:
        if error.errno != number:
            raise


@promise("race.classic-replaced")
@ledger("K13")
@each_family
def test_replacing_a_classic_program_under_traffic(bench: Bench, race: Race, family: Family) -> None:
    """A classic program may be replaced again and again while datagrams run it.

    It takes its time over each datagram, to have not ended yet when it is replaced: it dissects the packet's headers
    again and again (SKF_AD_PAY_OFFSET).
    """
    (first, *_) = bench.group(3, Protocol.UDP, family)
    sent = [frame for packet in bench.packets(5, 0, Protocol.UDP, family) for frame in frames.datagram(packet)]
    program = assemble("ld poff\n" * SLOW + "ret #1")
    race(
        lambda _: bench.wire.send(sent),
        lambda _: attach_classic(bench[first], program),
    )


@promise("race.life-and-death")
@ledger("K18")
@each_family
@each_protocol
def test_binding_and_closing_under_traffic(bench: Bench, race: Race, family: Family, protocol: Protocol) -> None:
    """Sockets may bind and close while packets, and the lookups of a program, are looking for them.

    A program that finds a socket which is neither counted nor freed after a grace period has the kernel warn
    (`bpf_sk_lookup`).
    """
    packets = bench.packets(20, 0, protocol, family)
    sent = [frame for packet in packets for frame in frames.opening(packet)]
    hosts = b"".join(socket.inet_pton(family.address_family, host) for host in (family.peer, family.server))
    four_tuple = hosts + struct.pack("!HH", packets[0].source_port, bench.port)
    function = bpf.SK_LOOKUP_TCP if protocol is Protocol.TCP else bpf.SK_LOOKUP_UDP
    looking = load_instructions("sched_cls", bpf.look_up_at_ingress(function, four_tuple, times=LOOKUPS))

    def live(source: random.Random) -> None:
        with suppress(BlockingIOError):
            join(protocol, family, family.any, bench.port).close()

    try:
        with bench.wire.at_ingress(looking):
            race(lambda _: bench.wire.send(sent), live)
    finally:
        os.close(looking)


@promise("race.requests-and-listeners")
@ledger("K32")
@each_family
@requires("tcp_migrate_req")
def test_listeners_close_while_requests_are_due(bench: Bench, race: Race, family: Family) -> None:
    """Listeners may close while requests of theirs wait, migrate by their timers, and are completed late."""
    bench.wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    with early_syn_ack_timer():
        bench.group(2, Protocol.TCP, family)

        def ask(source: random.Random) -> None:
            bench.open_connections(bench.packets(10, 0, Protocol.TCP, family)[: source.randrange(11)])
            left = bench.packets(10, 0, Protocol.TCP, family)
            bench.wire.send(frame for packet in left for frame in frames.syn(packet))
            bench.read()
            bench.reset_connections()

        def close(source: random.Random) -> None:
            joined = join(Protocol.TCP, family, family.any, bench.port)
            time.sleep(source.random() / 100)
            joined.close()

        race(ask, close)


@promise("race.data-with-the-ack")
@ledger("K33", "K41")
@each_family
def test_data_arrives_with_the_ack_on_another_cpu(bench: Bench, race: Race, family: Family) -> None:
    """The ACK that completes a handshake may be handled on one CPU while data of the connection comes in on another."""
    bench.group(2, Protocol.TCP, family)
    latest: list[bytes] = []

    def connect(source: random.Random) -> None:
        packet = bench.packet(0, Protocol.TCP, family, payload=b"")
        for reply in bench.wire.send(frames.syn(packet)):
            if (reply.kind, reply.port) == (ReplyKind.SYN_ACK, packet.source_port):
                latest[:] = frames.completing(packet, reply, b"data")
                bench.wire.send(frames.completing(packet, reply))
        bench.read()
        bench.reset_connections()

    race(connect, lambda _: bench.wire.post(latest) if latest else os.sched_yield())


@promise("race.identical-syns")
@ledger("K44")
@each_family
def test_identical_syns_on_two_cpus(bench: Bench, race: Race, family: Family) -> None:
    """One SYN may arrive twice at once, on two CPUs: one request comes of it (`reqsk_queue_hash_req`)."""
    bench.group(2, Protocol.TCP, family)
    latest: list[bytes] = []

    def connect(source: random.Random) -> None:
        packet = bench.packet(0, Protocol.TCP, family, payload=b"")
        latest[:] = frames.syn(packet)
        replies = bench.wire.send(latest * 2)
        answers = [reply for reply in replies if (reply.kind, reply.port) == (ReplyKind.SYN_ACK, packet.source_port)]
        bench.wire.send(frames.completing(packet, answers[0]) if answers else [])
        bench.read()
        bench.reset_connections()

    race(connect, lambda _: bench.wire.post(latest) if latest else os.sched_yield())
