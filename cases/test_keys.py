# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that differ by the key they take from a packet; the member is the one at the key modulo the group's size.

The delivery checks that the program ran, counted once, and saw the packet as it was sent; the cases state the member.
"""

from __future__ import annotations

import ipaddress
import itertools
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_protocol, in_sockarray, on_wildcard, place_by_hash, programs, promise, tcp, udp
from harness.interface.keys import MEASURED
from harness.interface.measured import Shares, measured_to_json
from harness.model.abi import CID_LENGTH, Result
from harness.model.layout import GROUP_SIZE, Family, Protocol
from harness.model.outcome import Delivered, Dropped
from harness.model.spread import band

if TYPE_CHECKING:
    from harness.cases import Bench, Delivery, LoadProgram, RecordProperty, ReuseportGroup, Wire
    from harness.model.outcome import Selection

pytestmark = [on_wildcard, in_sockarray]

SHORT = Dropped(Result.DROP_ERR_SKB_DATA)
NO_SOCKET = Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)
EVERY_KEY = ("by_source_port", "by_source_address", "by_hash", "by_cpu", "round_robin", "random")
SEED = 0x5E1EC7
MANY = 64 * GROUP_SIZE
CLIENTS_OF_IPV4 = ipaddress.ip_network("198.18.0.0/15")
"""RFC 2544's; routed back to the peer."""
FINALIZED = {0: 0, 1: 0x514E28B7, 0xFFFFFFFF: 0x81F16F39}
"""Published values of MurmurHash3's 32-bit finalizer, which mixes the keys that are no small numbers."""


def by_hash(selection: Selection, result: Result = Result.PASS) -> Delivered:
    """Return the selection that the packet's hash makes."""
    return Delivered(place_by_hash(selection.hash, GROUP_SIZE), result)


def addresses(family: Family, count: int) -> list[str]:
    """Return clients' addresses out of the ranges for documentation."""
    if family is Family.IPV4:
        return [str(CLIENTS_OF_IPV4[host]) for host in range(1, count + 1)]
    return [f"2001:db8:{host * 40503 % 65536:x}:0:{host * 7:x}::{host * 31:x}" for host in range(1, count + 1)]


@promise("key.source-port")
@programs("by_source_port")
def test_source_port_names_the_member(deliver: Delivery) -> None:
    """A program may take the source port as key: port N reaches the member at N modulo the group's size."""
    for port in range(30000, 30000 + GROUP_SIZE):
        assert deliver(deliver.packet(b"any", source_port=port)) == Delivered(port % GROUP_SIZE)


@promise("key.source-address")
@programs("by_source_address")
def test_client_keeps_its_member_whatever_its_port(deliver: Delivery) -> None:
    """A program may take the source address as key: all ports of a client reach one member, other clients others."""
    if deliver.shape.family is Family.IPV4 and sys.byteorder == "little":
        # The word that the program reads of it is 1.
        assert deliver(deliver.packet(source_address="1.0.0.0")) == Delivered(FINALIZED[1] % GROUP_SIZE)
    reached = set()
    for address in addresses(deliver.shape.family, 40):
        selections = {deliver(deliver.packet(source_address=address)) for _ in range(3)}
        assert len(selections) == 1, f"packets from {address} reach several members"
        reached |= selections
    assert len(reached) > GROUP_SIZE // 2, "40 clients are spread over half of the members at least"


@promise("key.hash")
@programs("by_hash")
def test_hash_of_the_context_names_the_member(deliver: Delivery) -> None:
    """A program may take `sk_reuseport_md.hash` as key; two packets of one four-tuple have one hash."""
    for _ in range(16):
        packet = deliver.packet()
        selection = deliver(packet)
        assert selection.hash is not None
        assert selection == Delivered(selection.hash % GROUP_SIZE)
        deliver.reset_connections()
        assert deliver(packet) == selection


@promise("key.cpu")
@programs("by_cpu")
def test_cpu_that_received_the_packet_names_the_member(deliver: Delivery, wire: Wire) -> None:
    """A program may take the CPU as key: packets that CPU N receives reach member N."""
    for cpu in wire.cpus:
        with wire.on_cpu(cpu):
            for _ in range(3):
                assert deliver(deliver.packet()) == Delivered(cpu % GROUP_SIZE)


@promise("key.round-robin")
@programs("round_robin")
def test_members_take_turns(group: ReuseportGroup, deliver: Delivery) -> None:
    """A program may keep a counter as key: each packet goes to the next member in turn."""
    group.program.state = 0
    turns = [deliver(deliver.packet()) for _ in range(GROUP_SIZE + 3)]
    assert turns == [Delivered(turn % GROUP_SIZE) for turn in range(GROUP_SIZE + 3)]


@promise("key.round-robin-empty")
@programs("round_robin")
def test_turn_is_taken_by_an_empty_slot_too(group: ReuseportGroup, deliver: Delivery) -> None:
    """In round robin a packet whose turn is an empty slot is dropped, and the next one goes on."""
    group.program.state = 2
    group.clear_slot(3)
    assert [deliver(deliver.packet()) for _ in range(3)] == [Delivered(2), NO_SOCKET, Delivered(4)]


@promise("key.random")
@programs("random")
def test_random_draws_repeat_from_one_seed(group: ReuseportGroup, deliver: Delivery) -> None:
    """A program may draw the key by xorshift64: from one seed it draws the same members again."""
    state, expected = SEED, []
    for _ in range(24):  # Marsaglia, "Xorshift RNGs", 2003: shifts by 13, 7 and 17
        for shift in (13, -7, 17):
            state ^= (state << shift if shift > 0 else state >> -shift) & (1 << 64) - 1
        expected.append(Delivered((state >> 32) % GROUP_SIZE))
    for _ in range(2):
        group.program.state = SEED
        assert [deliver(deliver.packet()) for _ in range(24)] == expected
    assert len(set(expected)) > 8, "the draws are spread over the members"


@promise("key.spread")
@udp
@programs("by_source_port", "by_source_address", "by_hash", "round_robin", "random")
def test_members_get_their_shares(group: ReuseportGroup, deliver: Delivery, record_property: RecordProperty) -> None:
    """Each member gets its share: exactly, where keys are a row of numbers, and as of a good hash, where not."""
    first = deliver.packet(source_port=30000)
    packets = first.from_each_port(range(30000, 30000 + MANY))
    program = group.program.variant.name
    if program == "by_source_address":
        packets = tuple(replace(first, source_address=address) for address in addresses(deliver.shape.family, MANY))
    if "state_map" in group.program.maps:
        group.program.state = SEED if program == "random" else 0
    counts = Counter(deliver.send_many(packets))
    received = [counts[member] for member in range(GROUP_SIZE)]
    exact = program in ("by_source_port", "round_robin")
    low, high = (MANY // GROUP_SIZE,) * 2 if exact else band(MANY, GROUP_SIZE)
    name = f"{program}, {'IPv4' if deliver.shape.family is Family.IPV4 else 'IPv6'}"
    record_property(MEASURED, measured_to_json(Shares(program=name, received=received, low=low, high=high)))
    assert sum(received) == MANY
    assert low <= min(received) <= max(received) <= high, f"of {MANY} packets the members have {received}"


@promise("key.empty-slot")
@programs(*EVERY_KEY)
def test_key_of_an_empty_slot_drops(group: ReuseportGroup, deliver: Delivery, wire: Wire) -> None:
    """A key that leads to an empty slot drops the packet, whatever the key is."""
    filled = 5
    for index in set(range(GROUP_SIZE)) - {filled}:
        group.clear_slot(index)
    if "state_map" in group.program.maps:
        group.program.state = SEED
    selections = {deliver(deliver.packet()) for _ in range(4)}
    assert selections <= {NO_SOCKET, Delivered(filled)}
    assert NO_SOCKET in selections or wire.settings.cpu == filled


@promise("key.no-size")
@each_protocol
def test_key_leads_nowhere_without_a_size(bench: Bench, load_for_test: LoadProgram, protocol: Protocol) -> None:
    """A size of zero leads no key anywhere: the program drops the packet, and does not divide."""
    member = bench.open(protocol)
    program = load_for_test("by_source_port", size=1)
    bench.attach(member, program)
    bench.fill(program.inner, [member])
    assert bench.send_and_find(bench.packet(protocol=protocol)) == member
    assert program.new_results() == {Result.PASS: 1}
    program.maps["size_map"].update(bytes(4), bytes(4))
    assert bench.send_and_find(bench.packet(protocol=protocol)) is None
    assert program.new_results() == {Result.DROP_MISC: 1}


@promise("key.no-inner-map")
@programs(*EVERY_KEY)
def test_missing_inner_map_drops(group: ReuseportGroup, deliver: Delivery) -> None:
    """Without an inner map no key leads anywhere: the packet is dropped."""
    if "state_map" in group.program.maps:
        group.program.state = SEED
    group.withdraw_inner_map()
    assert deliver(deliver.packet()) == Dropped(Result.DROP_ERR_INNER_MAP)


def session_of(number: int) -> bytes:
    """Return the four bytes that name a session."""
    return number.to_bytes(4, sys.byteorder)


@promise("key.content")
@programs("udp4_by_content")
def test_content_of_udp_over_ipv4_names_the_member(deliver: Delivery) -> None:
    """A program may take the content as key, of UDP over IPv4 alone; what it does not look into is left to the hash."""
    looks_into = (deliver.shape.protocol, deliver.shape.family) == (Protocol.UDP, Family.IPV4)
    for session, finalized in FINALIZED.items():
        for more in (b"", b"request", b"request, continued"):
            selection = deliver(deliver.packet(session_of(session) + more))
            assert selection == (Delivered(finalized % GROUP_SIZE) if looks_into else by_hash(selection))


@promise("key.content-short")
@udp
@programs("udp4_by_content")
def test_content_that_is_too_short(deliver: Delivery) -> None:
    """A program that takes the first four bytes as key drops fewer of them, where it looks into the packet at all."""
    for length in range(4):
        selection = deliver(deliver.packet(bytes(length)))
        assert selection == (SHORT if deliver.shape.family is Family.IPV4 else by_hash(selection))


@promise("key.content-fragments")
@udp
@programs("udp4_by_content")
def test_content_behind_the_linear_part(deliver: Delivery) -> None:
    """A key that lies behind the first fragment is read all the same."""
    for session, finalized in FINALIZED.items():
        selection = deliver(deliver.packet(session_of(session) + bytes(60), fragments=(8, 32)))
        looks_into = deliver.shape.family is Family.IPV4
        assert selection == (Delivered(finalized % GROUP_SIZE) if looks_into else by_hash(selection))


def short_header(cid: bytes, low: int = 1) -> bytes:
    """Return the start of a QUIC packet with a short header (section 17.3.1); `low` are the low bits of its flags."""
    return bytes([0x40 | low]) + cid + b"sealed payload"


def long_header(kind: int, cid: bytes, low: int = 0) -> bytes:
    """Return the start of one with a long header (RFC 9000, section 17.2): 0 Initial, 1 0-RTT, 2 Handshake, 3 Retry.

    What follows the connection ID, the length of the sender's own, is not zero: of an ID that is read too far it would
    be a leading zero.
    """
    return bytes([0xC0 | kind << 4 | low, 0, 0, 0, 1, len(cid)]) + cid + b"\x04peersealed payload"


def server_cid(index: int) -> bytes:
    """Return a connection ID that the member at the index would choose."""
    return bytes([index, *range(0xA1, 0xA1 + CID_LENGTH - 1)])


@promise("key.quic-index")
@udp
@programs("by_quic_index")
def test_quic_packet_reaches_the_member_that_chose_its_connection_id(deliver: Delivery) -> None:
    """A QUIC packet reaches the member that chose its connection ID, whatever address it comes from."""
    for index in range(GROUP_SIZE):
        assert deliver(deliver.packet(short_header(server_cid(index), index))) == Delivered(index)
        assert deliver(deliver.packet(long_header(2 + index % 2, server_cid(index), index % 16))) == Delivered(index)
    for address in addresses(deliver.shape.family, 4):
        assert deliver(deliver.packet(short_header(server_cid(9)), source_address=address)) == Delivered(9)
    assert deliver(deliver.packet(short_header(server_cid(9))[: 1 + CID_LENGTH])) == Delivered(9)
    assert deliver(deliver.packet(long_header(2, server_cid(9))[: 6 + CID_LENGTH])) == Delivered(9)


@promise("key.quic-client-id")
@udp
@programs("by_quic_index", "by_quic_connection")
@pytest.mark.parametrize("kind", [0, 1], ids=["initial", "0-rtt"])
def test_quic_connection_id_of_the_client_is_left_to_the_hash(deliver: Delivery, kind: int) -> None:
    """QUIC's Initial and 0-RTT packets, whose connection ID the client chose, are left to the hash."""
    for length, low in itertools.product((CID_LENGTH, CID_LENGTH + 4, 20), (0, 15)):
        selection = deliver(deliver.packet(long_header(kind, bytes([3, *[0] * (length - 1)]), low)))
        assert selection == by_hash(selection)


@promise("key.quic-other-length")
@udp
@programs("by_quic_index", "by_quic_connection")
@pytest.mark.parametrize("kind", [2, 3], ids=["handshake", "retry"])
def test_quic_connection_id_of_another_length_is_left_to_the_hash(deliver: Delivery, kind: int) -> None:
    """No member chose a connection ID that is shorter or longer than those of this server: it is left to the hash."""
    for length in (CID_LENGTH - 1, CID_LENGTH + 1, 20):
        selection = deliver(deliver.packet(long_header(kind, bytes([3, *[0] * (length - 1)]))))
        assert selection == by_hash(selection)


@promise("key.quic-malformed")
@udp
@programs("by_quic_index", "by_quic_connection")
def test_what_is_no_quic_is_dropped(deliver: Delivery) -> None:
    """A datagram without QUIC's fixed bit, or one that ends within the connection ID, is dropped (RFC 9000, 17)."""
    whole, long = short_header(server_cid(3)), long_header(2, server_cid(3))
    for length in range(1 + CID_LENGTH):
        assert deliver(deliver.packet(whole[:length])) == SHORT
    for length in range(6 + CID_LENGTH):
        assert deliver(deliver.packet(long[:length])) == SHORT
    for flags in (0x00, 0x3F, 0x80, 0xBF):
        assert deliver(deliver.packet(bytes([flags]) + whole[1:])) == SHORT


@promise("key.quic-tcp")
@tcp
@programs("by_quic_index")
def test_tcp_is_no_quic(deliver: Delivery) -> None:
    """A program for QUIC leaves TCP connections to the same port to the hash."""
    selection = deliver(deliver.packet(short_header(server_cid(3))))
    assert selection == by_hash(selection)


@promise("key.quic-index-empty")
@udp
@programs("by_quic_index")
def test_quic_index_of_nobody_drops(group: ReuseportGroup, deliver: Delivery) -> None:
    """A QUIC packet whose connection ID names an empty slot is dropped."""
    group.clear_slot(7)
    assert deliver(deliver.packet(short_header(server_cid(7)))) == NO_SOCKET
    assert deliver(deliver.packet(short_header(server_cid(GROUP_SIZE)))) == NO_SOCKET


@promise("key.quic-connection")
@udp
@programs("by_quic_connection")
def test_quic_connection_is_found_in_a_hash_of_sockets(group: ReuseportGroup, deliver: Delivery) -> None:
    """A hash of sockets finds a QUIC connection ID that a member entered; an unknown one is left to the hash."""
    for member in (4, 11):
        cid = bytes(range(member, member + CID_LENGTH))
        packet = deliver.packet(short_header(cid))
        unknown = deliver(packet)
        assert unknown == by_hash(unknown, Result.PASS_ERR_SK_SELECT_REUSEPORT)
        group.clear_slot(member)  # room in the hash
        group.set_slot(int.from_bytes(cid, sys.byteorder), member)
        assert deliver(packet) == Delivered(member)
        assert deliver(replace(packet, payload=long_header(2, cid))) == Delivered(member)
        assert deliver(replace(packet, payload=short_header(cid[::-1]))) == unknown
