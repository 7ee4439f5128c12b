# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What holds for any SK_REUSEPORT program, whatever it decides: run with `--program FILE`.

Nothing is known of the program's rule here, nor whether it decides alike twice: no packet is sent again to see its
refusal. See docs/own-program.md for cases that know the rule.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.cases import each_family, each_protocol, promise
from harness.interface.keys import OBSERVED
from harness.kernel.refusal import refused
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cases import Bench, OwnProgram, Packet, RecordProperty


SIZE = 8
PACKETS = 64


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
        assert replies == expected, f"{packet}: held by {receiver}, and these replies came"
    return [receiver for receiver, _ in found]


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
    lengths = (0, 1, 4, 7, 8, 20, 100, 1200)
    send_and_check(bench, [bench.packet(0, protocol, family, payload=bytes(length)) for length in lengths])


@promise("own.fragments")
@each_family
def test_fragments_are_decided_as_a_whole(bench: Bench, own_program: OwnProgram, family: Family) -> None:
    """A datagram in fragments, most of it beyond `data_end`, is held or refused as a whole."""
    open_group(bench, own_program, Protocol.UDP, family)
    send_and_check(bench, [bench.packet(0, Protocol.UDP, family, payload=bytes(256), fragments=(8, 64))])


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
