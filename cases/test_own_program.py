# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What holds for any program that is attached to a group, whatever it decides: run with `--program FILE`.

Nothing is known of the program's rule here, nor whether it decides alike twice: no packet is sent again to see its
refusal. See docs/own-program.md for cases that know the rule.
"""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.cases import each_family, each_protocol, promise, requires
from harness.interface.keys import OBSERVED
from harness.kernel.refusal import refused
from harness.loader.instructions import verdict
from harness.loader.load import load_instructions
from harness.loader.statistics import Cost, counting
from harness.model.layout import Family, Protocol
from harness.model.malformed import Malformation
from harness.model.outcome import ReplyKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.cases import Bench, OwnProgram, Packet, RecordProperty


SK_PASS = 1  # enum sk_action (include/uapi/linux/bpf.h)
SIZE = 8
LARGE = 140
PACKETS = 64
MANY = 400
SYNS = 64
"""One member may get all of them. A listener takes requests of peers that it does not know up to three quarters of
net.ipv4.tcp_max_syn_backlog (tcp_conn_request()), which is 128 where memory is small."""
FEW = 8
"""Packets of different lengths that are made at once: each length is a form of its own, which takes time to make."""
HOP_BY_HOP, DESTINATION_OPTIONS = 0, 60
PADN = bytes([0, 0, 1, 4, 0, 0, 0, 0])


def open_group(bench: Bench, program: OwnProgram, protocol: Protocol, family: Family) -> list[int]:
    """Open a group under the program; each member is in the slot of its number, of every map that has slots."""
    members = bench.group(SIZE, protocol, family)
    bench.attach(members[0], program)
    for index, number in enumerate(members):
        program.put(index, bench[number].fileno())
    return members


def send_and_check(bench: Bench, packets: Sequence[Packet]) -> list[int | None]:
    """Send packets; return the socket that holds each, None for one that was refused.

    Raises AssertionError for a packet that is neither held nor refused, or both.
    """
    protocol = packets[0].protocol
    held = [] if protocol is Protocol.UDP else [ReplyKind.SYN_ACK]
    refused = [ReplyKind.PORT_UNREACHABLE if protocol is Protocol.UDP else ReplyKind.RESET]
    found = bench.send_and_watch_each(packets)
    for packet, (receiver, replies) in zip(packets, found, strict=True):
        expected = refused if receiver is None else held
        # A guest may be too slow for the timer of a SYN-ACK (TCP_TIMEOUT_INIT, one second), which then comes again.
        once = list(dict.fromkeys(replies)) if protocol is Protocol.TCP else replies
        assert once == expected, f"{packet}: held by {receiver}, and these replies came"
    return [receiver for receiver, _ in found]


def time_of_a_run(bench: Bench, family: Family, counted: Callable[[], Cost | None]) -> int | None:
    """Send datagrams a few at a time; return how long one run took where that was least, in nanoseconds.

    The least, as a guest's CPU is taken away at times, and a run lasts long then. None if the kernel counts no runs.
    Raises AssertionError if the program did not run once for each datagram.
    """
    ends = [Cost(runs=0, nanoseconds=0)]
    for _ in range(PACKETS // FEW):
        send_and_check(bench, bench.packets(FEW, 1, Protocol.UDP, family))
        end = counted()
        if end is None:
            return None
        ends.append(end)
    assert [end.runs - start.runs for start, end in pairwise(ends)] == [FEW] * (PACKETS // FEW)
    return min((end.nanoseconds - start.nanoseconds) // FEW for start, end in pairwise(ends))


@promise("own.attach")
@each_protocol
@each_family
def test_it_loads_attaches_and_detaches(
    bench: Bench, own_program: OwnProgram, protocol: Protocol, family: Family
) -> None:
    """A program of your own loads, attaches to a group, and detaches."""
    members = open_group(bench, own_program, protocol, family)
    bench.detach(members[-1])
    with refused(errno.ENOENT):
        bench.detach(members[0])


@promise("own.decided")
@each_protocol
@each_family
def test_every_packet_has_one_receiver_or_one_answer(
    bench: Bench,
    own_program: OwnProgram,
    protocol: Protocol,
    family: Family,
    record_property: RecordProperty,
) -> None:
    """Each packet is held by one member or refused in the protocol's own way, never neither and never both."""
    open_group(bench, own_program, protocol, family)
    dropped = send_and_check(bench, bench.packets(PACKETS, 1, protocol, family)).count(None)
    record_property(OBSERVED, f"{PACKETS - dropped} delivered, {dropped} refused")


@promise("own.lengths")
@each_protocol
@each_family
def test_payloads_of_every_length_are_decided(
    bench: Bench, own_program: OwnProgram, protocol: Protocol, family: Family
) -> None:
    """Packets of every length, shorter than the program may expect too, are held or refused; none is lost."""
    open_group(bench, own_program, protocol, family)
    lengths = (*range(64), 100, 576, 1200, 1400)
    for first in (b"\0", b"\x40", b"\xc0"):  # nothing, and QUIC's two kinds of header
        contents = [(first * length)[:1] + bytes(max(length - 1, 0)) for length in lengths]
        for start in range(0, len(contents), FEW):
            few = contents[start : start + FEW]
            send_and_check(bench, [bench.packet(0, protocol, family, payload=content) for content in few])


@promise("own.fragments")
@each_family
def test_fragments_are_decided_as_a_whole(bench: Bench, own_program: OwnProgram, family: Family) -> None:
    """A datagram in fragments, most of it beyond `data_end`, is held or refused as a whole."""
    open_group(bench, own_program, Protocol.UDP, family)
    for cuts in ((8,), (16,), (8, 64), (128,), tuple(range(8, 264, 8))):
        for order in ((), tuple(range(len(cuts), -1, -1))):
            unusual = Malformation(order=order) if order else None
            packet = bench.packet(0, Protocol.UDP, family, payload=bytes(256), fragments=cuts, malformation=unusual)
            send_and_check(bench, [packet])


@promise("own.headers")
@each_protocol
@each_family
def test_unusual_headers_lose_no_packet(
    bench: Bench, own_program: OwnProgram, protocol: Protocol, family: Family
) -> None:
    """IPv4 options, IPv6 extension headers, a priority tag, and bytes behind the packet: held or refused, not lost."""
    open_group(bench, own_program, protocol, family)
    unusual = [Malformation(vlans=(0,)), Malformation(trailer=bytes(9)), Malformation(hop_limit=1)]
    if family is Family.IPV4:
        unusual += [Malformation(ipv4_options=b"\x01" * length) for length in (4, 40)]
    else:
        unusual += [Malformation(ipv6_extensions=((number, PADN),)) for number in (HOP_BY_HOP, DESTINATION_OPTIONS)]
    for length in (0, 8, 20):
        send_and_check(
            bench,
            [bench.packet(0, protocol, family, payload=bytes(length), malformation=each) for each in unusual],
        )


@promise("own.growth")
@each_protocol
@each_family
def test_a_group_that_grows_keeps_it(bench: Bench, own_program: OwnProgram, protocol: Protocol, family: Family) -> None:
    """A group that grows over 128 members, and gets a larger array (`reuseport_grow`), is still under the program."""
    members = open_group(bench, own_program, protocol, family)
    bench.group(LARGE - SIZE, protocol, family)
    send_and_check(bench, bench.packets(PACKETS, 1, protocol, family))
    bench.detach(members[0])


@promise("own.replaced")
@each_protocol
@each_family
def test_it_may_be_attached_again_and_detached_under_traffic(
    bench: Bench, own_program: OwnProgram, protocol: Protocol, family: Family
) -> None:
    """While it is attached again and again, and detached, no datagram is held twice and every SYN has one answer."""
    members = open_group(bench, own_program, protocol, family)
    count = MANY if protocol is Protocol.UDP else SYNS
    packets = [bench.packet(0, protocol, family, payload=number.to_bytes(8, "big")) for number in range(count)]
    with bench.sending_meanwhile(packets) as still_sending:
        changes = 0
        while still_sending() or changes < 4:
            if changes % 2:
                bench.detach(members[0])
            else:
                bench.attach(members[changes % SIZE], own_program)
            changes += 1
    if protocol is Protocol.TCP:
        answers = {(reply.port, reply.kind) for reply in bench.replies_meanwhile}
        assert sorted(port for port, _ in answers) == sorted(packet.source_port for packet in packets)
        assert {kind for _, kind in answers} <= {ReplyKind.SYN_ACK, ReplyKind.RESET}
        return
    held = [data for each in bench.read().values() for data in each]
    assert len(held) == len(set(held))
    assert set(held) <= {packet.payload for packet in packets}


@promise("own.migration")
@requires("tcp_migrate_req")
@each_family
def test_what_nobody_accepted_moves_or_is_lost_as_a_whole(
    bench: Bench, own_program: OwnProgram, family: Family
) -> None:
    """With net.ipv4.tcp_migrate_req, connections of a listener that closes go to one that is left or are reset."""
    bench.wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    members = open_group(bench, own_program, Protocol.TCP, family)
    packets = bench.packets(PACKETS, 0, Protocol.TCP, family)
    replies = bench.open_connections(packets)
    opened = {reply.port for reply in replies if reply.kind is ReplyKind.SYN_ACK}
    for leaving in members[: SIZE // 2]:
        bench[leaving].close()
    reset = {reply.port for reply in bench.wire.read_replies() if reply.kind is ReplyKind.RESET}
    held = bench.read_ports()
    assert set(held.values()) <= set(members[SIZE // 2 :])
    assert held.keys() <= opened
    assert held.keys().isdisjoint(reset)


@promise("own.cost")
@each_family
def test_it_runs_once_for_each_datagram(
    bench: Bench, own_program: OwnProgram, family: Family, record_property: RecordProperty
) -> None:
    """The kernel runs the program once for each datagram; a classic one has no counters."""
    members = open_group(bench, own_program, Protocol.UDP, family)
    with own_program.counted() as counted:
        time = time_of_a_run(bench, family, counted)
    if time is None:
        record_property(OBSERVED, "classic: the kernel counts no runs")
        return
    passes = load_instructions("sk_reuseport", verdict(SK_PASS))
    try:
        bench.attach(members[0], passes)
        with counting(passes) as counted:
            by_hash = time_of_a_run(bench, family, counted)
    finally:
        os.close(passes)
    record_property(OBSERVED, f"{time} ns a packet; a program that leaves all to the hash: {by_hash} ns")


@promise("own.leaving")
@each_protocol
@each_family
def test_members_may_leave_until_none_is_left(
    bench: Bench, own_program: OwnProgram, protocol: Protocol, family: Family
) -> None:
    """Members may close one by one: packets go to those that are left or are refused, in the end all of them."""
    members = open_group(bench, own_program, protocol, family)
    for leaving in members:
        left = {*members[leaving:], None}
        assert set(send_and_check(bench, bench.packets(6, 0, protocol, family))) <= left
        bench[leaving].close()
    assert send_and_check(bench, bench.packets(6, 0, protocol, family)) == [None] * 6


@promise("own.detached")
@each_protocol
@each_family
def test_without_it_the_hash_reaches_everyone(
    bench: Bench, own_program: OwnProgram, protocol: Protocol, family: Family
) -> None:
    """Once the program is detached, the hash reaches all members."""
    members = open_group(bench, own_program, protocol, family)
    bench.detach(members[0])
    packets = [each for _ in range(3) for each in bench.packets(80, 0, protocol, family)]
    assert set(bench.send_and_find_each(packets)) == set(members)
