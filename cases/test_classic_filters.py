# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that return a place in the group instead of selecting from a map: socket filters, eBPF and classic.

The place counts the members in the kernel's order. Their data starts behind the transport header, at the payload,
where that of SK_REUSEPORT programs starts at the transport header.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from harness.cases import in_sockarray, ipv4, on_wildcard, place_by_hash, promise, udp
from harness.model.abi import Result
from harness.model.outcome import Delivered, Dropped

if TYPE_CHECKING:
    from harness.cases import DeliverTo, Delivery, LoadProgram, MakeGroup, Packet, ReuseportGroup, Wire
    from harness.model.layout import Shape


pytestmark = [on_wildcard, in_sockarray]
SIZE = 16
FILTERS = ("filter_index", "classic_payload")
each_filter = pytest.mark.parametrize("program", FILTERS)


def naming(program: str, place: int) -> bytes:
    """Return a payload that names a place to the program."""
    return struct.pack("=I", place) if program == "filter_index" else bytes([place])


def counted(program: str, result: Result = Result.PASS) -> Result | None:
    """Return what the program counts: classic BPF has no maps to count in."""
    return result if program == "filter_index" else None


def send_for_hash(group: ReuseportGroup, deliver: Delivery, load_for_test: LoadProgram, packet: Packet) -> int:
    """Send a packet under a program that reports the hash, which is returned; attach the former program again."""
    before = group.program
    group.replace_program(load_for_test("always_pass", size=SIZE))
    hash_ = deliver(packet).hash
    deliver.reset_connections()
    group.replace_program(before)
    assert hash_ is not None, "the program reports the hash of every packet"
    return hash_


@promise("filter.place")
@each_filter
def test_place_in_the_payload_names_the_member(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape, program: str
) -> None:
    """A filter returns a place in the group; at offset 0 it reads the payload's first byte (`run_bpf_filter`)."""
    group = make_group(shape, program=program, size=SIZE)
    deliver = delivery_to(group)
    for place in range(SIZE):
        packet = deliver.packet(naming(program, place) + b"and more")
        assert deliver(packet) == Delivered(place, counted(program))


@promise("filter.order")
@each_filter
def test_place_follows_the_order_of_the_group(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape, program: str
) -> None:
    """A filter's places follow the group's order: when a member leaves, the last one takes its place (socket(7))."""
    group = make_group(shape, program=program, size=SIZE)
    deliver = delivery_to(group)
    group.leave(2)
    assert deliver(deliver.packet(naming(program, 2))) == Delivered(SIZE - 1, counted(program))
    assert deliver(deliver.packet(naming(program, 3))) == Delivered(3, counted(program))
    group.join(2)
    assert deliver(deliver.packet(naming(program, SIZE - 1))) == Delivered(2, counted(program))


@promise("filter.beyond")
@each_filter
def test_place_that_is_not_there_leaves_the_choice_to_the_hash(
    make_group: MakeGroup, delivery_to: DeliverTo, load_for_test: LoadProgram, shape: Shape, program: str
) -> None:
    """A filter that returns a place beyond the last member leaves the choice to the hash: none can drop."""
    group = make_group(shape, program=program, size=SIZE)
    deliver = delivery_to(group)
    for place in (SIZE, 255):
        packet = deliver.packet(naming(program, place))
        hash_ = send_for_hash(group, deliver, load_for_test, packet)
        assert deliver(packet, hash_=hash_) == Delivered(place_by_hash(hash_, SIZE), counted(program))


@promise("filter.beyond-left")
@each_filter
def test_place_that_was_left_leaves_the_choice_to_the_hash(
    make_group: MakeGroup, delivery_to: DeliverTo, load_for_test: LoadProgram, shape: Shape, program: str
) -> None:
    """A place that the last member left, to fill a hole, is no place any more: the choice is the hash's.

    The array still has the member there (`__reuseport_detach_sock`).
    """
    group = make_group(shape, program=program, size=SIZE + 1)
    deliver = delivery_to(group)
    group.leave(2)
    order = [0, 1, SIZE, *range(3, SIZE)]
    for _ in range(5):
        packet = deliver.packet(naming(program, SIZE))
        hash_ = send_for_hash(group, deliver, load_for_test, packet)
        assert deliver(packet, hash_=hash_) == Delivered(order[place_by_hash(hash_, SIZE)], counted(program))
        deliver.reset_connections()


@promise("filter.classic-load-fails")
def test_classic_load_beyond_the_packet_means_the_first_member(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape
) -> None:
    """A load beyond the packet ends a classic filter with 0, which is a place: the first member's."""
    group = make_group(shape, program="classic_payload", size=SIZE)
    deliver = delivery_to(group)
    assert [deliver(deliver.packet(b"")) for _ in range(4)] == [Delivered(0, None)] * 4
    group.leave(0)
    assert deliver(deliver.packet(b"")) == Delivered(SIZE - 1, None)


@promise("filter.ebpf-load-fails")
def test_filter_that_cannot_read_leaves_the_choice_to_the_hash(
    make_group: MakeGroup, delivery_to: DeliverTo, load_for_test: LoadProgram, shape: Shape
) -> None:
    """An eBPF filter sees that its load failed, and may leave the choice to the hash by a place that no member has."""
    group = make_group(shape, program="filter_index", size=SIZE)
    deliver = delivery_to(group)
    packet = deliver.packet(b"abc")
    hash_ = send_for_hash(group, deliver, load_for_test, packet)
    expected = Delivered(place_by_hash(hash_, SIZE), Result.PASS_ERR_SK_SELECT_REUSEPORT)
    assert deliver(packet, hash_=hash_) == expected


@promise("filter.fragments")
@udp
@each_filter
def test_payload_behind_the_linear_part_is_read(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape, program: str
) -> None:
    """A filter reads a datagram in fragments as a whole, behind the first fragment too."""
    group = make_group(shape, program=program, size=SIZE)
    deliver = delivery_to(group)
    for place in (0, 9, SIZE - 1):
        packet = deliver.packet(naming(program, place) + bytes(60), fragments=(8, 16))
        assert deliver(packet) == Delivered(place, counted(program))


@promise("filter.network-header")
@ipv4
def test_headers_are_reached_through_the_network_header(
    make_group: MakeGroup, delivery_to: DeliverTo, shape: Shape
) -> None:
    """A classic filter reaches the headers by SKF_NET_OFF, which counts from the IP header."""
    group = make_group(shape, program="classic_source_port", size=SIZE)
    deliver = delivery_to(group)
    for port in range(30_000, 30_000 + SIZE + 2):
        assert deliver(deliver.packet(b"\xff\xff", source_port=port)) == Delivered(port % SIZE, None)


@promise("filter.cpu")
def test_place_of_the_cpu(make_group: MakeGroup, delivery_to: DeliverTo, wire: Wire, shape: Shape) -> None:
    """A classic filter that returns SKF_AD_CPU gives each CPU's packets to the member in that place."""
    group = make_group(shape, program="classic_cpu", size=max(wire.cpus) + 1)
    deliver = delivery_to(group)
    for cpu in wire.cpus:
        with wire.on_cpu(cpu):
            assert deliver(deliver.packet(b"\xff")) == Delivered(cpu, None)


@promise("filter.offset")
def test_one_packet_two_offsets(
    make_group: MakeGroup, delivery_to: DeliverTo, load_for_test: LoadProgram, shape: Shape
) -> None:
    """At offset 0 a filter reads the payload, an SK_REUSEPORT program the transport header."""
    group = make_group(shape, program="classic_payload", size=SIZE)
    deliver = delivery_to(group)
    packet = deliver.packet(bytes([11]) + b"payload")
    assert deliver(packet) == Delivered(11, None)
    deliver.reset_connections()
    reading = load_for_test("load_bytes", size=SIZE)
    group.replace_program(reading)
    reading.ask(0, 2)
    deliver(packet)
    error, read = reading.answer()
    assert (error, read[:2]) == (0, packet.source_port.to_bytes(2, "big"))


@promise("filter.replaced")
@each_filter
def test_last_program_attached_is_the_one_that_decides(
    make_group: MakeGroup, delivery_to: DeliverTo, load_for_test: LoadProgram, shape: Shape, program: str
) -> None:
    """A filter replaces a program that selects from a map, and the other way round; detached, the hash decides."""
    group = make_group(shape, size=SIZE)
    deliver = delivery_to(group)
    assert deliver(deliver.command(4)) == Delivered(4)
    filtering, selecting = load_for_test(program), load_for_test("by_source_port", size=SIZE)
    packet = deliver.packet(naming(program, 12))
    group.replace_program(filtering)
    assert deliver(deliver.packet(naming(program, 12))) == Delivered(12, counted(program))
    group.replace_program(selecting)
    assert deliver(deliver.packet(naming(program, 12))) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)  # empty slots
    hash_ = send_for_hash(group, deliver, load_for_test, packet)
    group.replace_program(filtering)
    group.detach()
    assert deliver(packet, hash_=hash_) == Delivered(place_by_hash(hash_, SIZE), None)
