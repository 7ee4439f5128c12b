# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that return a place in the group instead of selecting from a map: socket filters, eBPF and classic.

The place counts the members in the kernel's order. Their data starts behind the transport header, at the payload,
where that of SK_REUSEPORT programs starts at the transport header.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from harness.model.abi import Result
from harness.model.expect import reciprocal_scale
from harness.model.layout import Bind, Family, InnerMap, Protocol, Shape
from harness.model.outcome import Delivered, Dropped

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.group.delivery import Delivery
    from harness.group.reuseport_group import ReuseportGroup
    from harness.loader.program import Program
    from harness.model.packets import Packet
    from harness.wire.veth import Wire

    MakeGroup = Callable[..., ReuseportGroup]
    DeliveryTo = Callable[..., Delivery]
    Load = Callable[..., Program]

pytestmark = pytest.mark.shapes(bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)
udp = pytest.mark.shapes(protocol=Protocol.UDP)
SIZE = 16
FILTERS = ("filter_index", "classic_payload")
each_filter = pytest.mark.parametrize("program", FILTERS)


def naming(program: str, place: int) -> bytes:
    """Return a payload that names a place to the program."""
    return struct.pack("=I", place) if program == "filter_index" else bytes([place])


def counted(program: str, result: Result = Result.PASS) -> Result | None:
    """Return what the program counts: classic BPF has no maps to count in."""
    return result if program == "filter_index" else None


def hash_of(group: ReuseportGroup, deliver: Delivery, load_for_test: Load, packet: Packet) -> int:
    """Return the hash of a packet's four-tuple, from a program that is attached for a moment and reports it."""
    before = group.program
    group.replace_program(load_for_test("always_pass", size=SIZE))
    hash_ = deliver(packet).hash
    deliver.finish()
    group.replace_program(before)
    assert hash_ is not None
    return hash_


@each_filter
def test_place_in_the_payload_names_the_member(
    make_group: MakeGroup, delivery_to: DeliveryTo, shape: Shape, program: str
) -> None:
    """Offset 0 is the payload's first byte, for datagrams as for a SYN with its options."""
    group = make_group(shape, program=program, size=SIZE)
    deliver = delivery_to(group)
    for place in range(SIZE):
        packet = deliver.packet(naming(program, place) + b"and more")
        assert deliver(packet) == Delivered(place, counted(program))


@each_filter
def test_place_follows_the_order_of_the_group(
    make_group: MakeGroup, delivery_to: DeliveryTo, shape: Shape, program: str
) -> None:
    """A member that leaves gives its place to the last one (socket(7)): places are no names."""
    group = make_group(shape, program=program, size=SIZE)
    deliver = delivery_to(group)
    group.leave(2)
    assert deliver(deliver.packet(naming(program, 2))) == Delivered(SIZE - 1, counted(program))
    assert deliver(deliver.packet(naming(program, 3))) == Delivered(3, counted(program))
    group.join(2)
    assert deliver(deliver.packet(naming(program, SIZE - 1))) == Delivered(2, counted(program))


@each_filter
def test_place_that_is_not_there_leaves_the_choice_to_the_hash(
    make_group: MakeGroup, delivery_to: DeliveryTo, load_for_test: Load, shape: Shape, program: str
) -> None:
    """No such program can drop: a place beyond the last member falls back to the hash."""
    group = make_group(shape, program=program, size=SIZE)
    deliver = delivery_to(group)
    for place in (SIZE, 255):
        packet = deliver.packet(naming(program, place))
        hash_ = hash_of(group, deliver, load_for_test, packet)
        expected = Delivered(reciprocal_scale(hash_, SIZE), counted(program))
        assert deliver(packet, hash_=hash_) == expected


def test_classic_load_beyond_the_packet_means_the_first_member(
    make_group: MakeGroup, delivery_to: DeliveryTo, shape: Shape
) -> None:
    """A load that fails ends classic BPF with 0, and 0 is a place: empty packets all go to the first member."""
    group = make_group(shape, program="classic_payload", size=SIZE)
    deliver = delivery_to(group)
    assert [deliver(deliver.packet(b"")) for _ in range(4)] == [Delivered(0, None)] * 4
    group.leave(0)
    assert deliver(deliver.packet(b"")) == Delivered(SIZE - 1, None)


def test_filter_that_cannot_read_leaves_the_choice_to_the_hash(
    make_group: MakeGroup, delivery_to: DeliveryTo, load_for_test: Load, shape: Shape
) -> None:
    """An eBPF filter sees that its load failed and may answer with a place that nobody has."""
    group = make_group(shape, program="filter_index", size=SIZE)
    deliver = delivery_to(group)
    packet = deliver.packet(b"abc")
    hash_ = hash_of(group, deliver, load_for_test, packet)
    expected = Delivered(reciprocal_scale(hash_, SIZE), Result.PASS_ERR_SK_SELECT_REUSEPORT)
    assert deliver(packet, hash_=hash_) == expected


@udp
@each_filter
def test_payload_behind_the_linear_part_is_read(
    make_group: MakeGroup, delivery_to: DeliveryTo, shape: Shape, program: str
) -> None:
    """A datagram in fragments is reassembled before the program reads it."""
    group = make_group(shape, program=program, size=SIZE)
    deliver = delivery_to(group)
    for place in (0, 9, SIZE - 1):
        packet = deliver.packet(naming(program, place) + bytes(60), fragments=(8, 16))
        assert deliver(packet) == Delivered(place, counted(program))


@pytest.mark.shapes(family=Family.IPV4)
def test_headers_are_reached_through_the_network_header(
    make_group: MakeGroup, delivery_to: DeliveryTo, shape: Shape
) -> None:
    """SKF_NET_OFF counts from the IP header: the source port lies 20 bytes behind it, before the payload."""
    group = make_group(shape, program="classic_source_port", size=SIZE)
    deliver = delivery_to(group)
    for port in range(30_000, 30_000 + SIZE + 2):
        assert deliver(deliver.packet(b"\xff\xff", source_port=port)) == Delivered(port % SIZE, None)


def test_place_of_the_cpu(make_group: MakeGroup, delivery_to: DeliveryTo, wire: Wire, shape: Shape) -> None:
    """SKF_AD_CPU is the CPU that received the packet: with a socket a CPU, each has its own."""
    group = make_group(shape, program="classic_cpu", size=max(wire.cpus) + 1)
    deliver = delivery_to(group)
    for cpu in wire.cpus:
        with wire.on_cpu(cpu):
            assert deliver(deliver.packet(b"\xff")) == Delivered(cpu, None)


def test_one_packet_two_offsets(
    make_group: MakeGroup, delivery_to: DeliveryTo, load_for_test: Load, shape: Shape
) -> None:
    """What a filter reads at 0 is the payload; what an SK_REUSEPORT program reads at 0 is the source port."""
    group = make_group(shape, program="classic_payload", size=SIZE)
    deliver = delivery_to(group)
    packet = deliver.packet(bytes([11]) + b"payload")
    assert deliver(packet) == Delivered(11, None)
    deliver.finish()
    reading = load_for_test("load_bytes", size=SIZE)
    group.replace_program(reading)
    reading.maps["question_map"].update(struct.pack("=I", 0), struct.pack("=III", 0, 2, 0xFFFFFFFF))
    deliver(packet)
    answer = reading.maps["answer_map"].lookup(struct.pack("=I", 0))
    assert answer is not None
    assert answer[8:10] == packet.source_port.to_bytes(2, "big")


@each_filter
def test_last_program_attached_is_the_one_that_decides(
    make_group: MakeGroup, delivery_to: DeliveryTo, load_for_test: Load, shape: Shape, program: str
) -> None:
    """A filter takes the place of a program that selects from a map, and gives it up again; detached, neither does."""
    group = make_group(shape, size=SIZE)
    deliver = delivery_to(group)
    assert deliver(deliver.command(4)) == Delivered(4)
    filtering, selecting = load_for_test(program), load_for_test("by_source_port", size=SIZE)
    packet = deliver.packet(naming(program, 12))
    group.replace_program(filtering)
    assert deliver(deliver.packet(naming(program, 12))) == Delivered(12, counted(program))
    group.replace_program(selecting)
    assert deliver(deliver.packet(naming(program, 12))) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)  # empty slots
    hash_ = hash_of(group, deliver, load_for_test, packet)
    group.replace_program(filtering)
    group.detach()
    assert deliver(packet, hash_=hash_) == Delivered(reciprocal_scale(hash_, SIZE), None)
