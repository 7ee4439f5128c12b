# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What holds for any SK_REUSEPORT program, whatever it decides: run with `--program FILE`.

Nothing is known of the program's rule here. See docs/own-program.md for cases that know it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.kernel.refusal import refused
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.group.bench import Bench
    from harness.plugins.own_program import OwnProgram

both = pytest.mark.parametrize("protocol", Protocol)
families = pytest.mark.parametrize("family", Family)

SIZE = 8
PACKETS = 64


def group(bench: Bench, program: OwnProgram, protocol: Protocol, family: Family) -> list[int]:
    """Open a group under the program; each member is in the slot of its number, of every map that has slots."""
    members = bench.group(SIZE, protocol, family)
    bench.attach(members[0], program.fd)
    for index, number in enumerate(members):
        program.put(index, bench[number].fileno())
    return members


@both
@families
def test_it_loads_attaches_and_detaches(
    bench: Bench, own_program: OwnProgram, protocol: Protocol, family: Family
) -> None:
    """The verifier takes it, a group takes it, and it goes when it is told to."""
    members = group(bench, own_program, protocol, family)
    bench.detach(members[-1])
    with refused(errno.ENOENT):
        bench.detach(members[0])


@both
@families
def test_every_packet_has_one_receiver_or_one_answer(
    bench: Bench,
    own_program: OwnProgram,
    protocol: Protocol,
    family: Family,
    record_property: Callable[[str, object], None],
) -> None:
    """A packet is held by one member, or refused in the protocol's own way: never neither, never both."""
    members = group(bench, own_program, protocol, family)
    packets = bench.packets(PACKETS, 1, protocol, family)
    receivers = [bench.send_and_find(packet) for packet in packets]
    assert set(receivers) <= {*members, None}
    refusal = ReplyKind.PORT_UNREACHABLE if protocol is Protocol.UDP else ReplyKind.RESET
    for packet, receiver in zip(packets, receivers, strict=True):
        if receiver is None:
            assert bench.send_and_capture(packet) == [refusal], f"{packet}: nobody has it, so it has to be refused"
    dropped = receivers.count(None)
    record_property("observed", f"{PACKETS - dropped} delivered, {dropped} refused")


@both
@families
def test_payloads_of_every_length_are_decided(
    bench: Bench, own_program: OwnProgram, protocol: Protocol, family: Family
) -> None:
    """A program that trusts a length that is not there would fail on the short ones; none of them is lost."""
    group(bench, own_program, protocol, family)
    for length in (0, 1, 4, 7, 8, 20, 100, 1200):
        packet = bench.packet(0, protocol, family, payload=bytes(length))
        if bench.send_and_find(packet) is None:
            assert bench.send_and_capture(packet), f"{packet}: neither delivered nor refused"


@families
def test_fragments_are_decided_as_a_whole(bench: Bench, own_program: OwnProgram, family: Family) -> None:
    """A datagram that came in fragments, most of it beyond `data_end`, has one outcome."""
    group(bench, own_program, Protocol.UDP, family)
    packet = bench.packet(0, Protocol.UDP, family, payload=bytes(256), fragments=(8, 64))
    if bench.send_and_find(packet) is None:
        assert bench.send_and_capture(packet) == [ReplyKind.PORT_UNREACHABLE]


@both
@families
def test_members_may_leave_until_none_is_left(
    bench: Bench, own_program: OwnProgram, protocol: Protocol, family: Family
) -> None:
    """Whatever closes, packets have outcomes; after the last member all are refused."""
    members = group(bench, own_program, protocol, family)
    for leaving in members:
        for packet in bench.packets(6, 0, protocol, family):
            receiver = bench.send_and_find(packet)
            assert receiver is None or receiver >= leaving, "a closed member cannot receive"
        bench[leaving].close()
    assert bench.send_and_find_each(bench.packets(6, 0, protocol, family)) == [None] * 6


@both
@families
def test_without_it_the_hash_reaches_everyone(
    bench: Bench, own_program: OwnProgram, protocol: Protocol, family: Family
) -> None:
    """Detached, it leaves nothing behind: all members share."""
    members = group(bench, own_program, protocol, family)
    bench.detach(members[0])
    packets = [each for _ in range(3) for each in bench.packets(80, 0, protocol, family)]
    assert set(bench.send_and_find_each(packets)) == set(members)
