# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that differ by the key they take from a packet; the member is the one at the key modulo the group's size.

The delivery checks that the program ran, counted once, and saw the packet as it was sent; the cases say which member.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.model.abi import CID_LENGTH, Result
from harness.model.consistent_hashing import fmix32
from harness.model.layout import GROUP_SIZE, Bind, Family, InnerMap, Protocol
from harness.model.outcome import Delivered, Dropped

if TYPE_CHECKING:
    from harness.group.delivery import Delivery
    from harness.group.reuseport_group import ReuseportGroup
    from harness.wire.veth import Wire

pytestmark = pytest.mark.shapes(bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)
udp = pytest.mark.shapes(protocol=Protocol.UDP)
tcp = pytest.mark.shapes(protocol=Protocol.TCP)

NO_SOCKET = Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)
EVERY_KEY = ("by_source_port", "by_source_address", "by_hash", "by_cpu", "round_robin", "random")
SEED = 0x5E1EC7


def addresses(family: Family, count: int) -> list[str]:
    """Return clients' addresses out of the ranges for documentation."""
    if family is Family.IPV4:
        return [f"198.51.100.{host}" for host in range(1, count + 1)]
    return [f"2001:db8:{host:x}::{host * 31:x}" for host in range(1, count + 1)]


@pytest.mark.programs("by_source_port")
def test_source_port_names_the_member(deliver: Delivery) -> None:
    """Ports that follow one another reach members that follow one another, whatever the payload."""
    for port in range(30000, 30000 + GROUP_SIZE):
        assert deliver(deliver.packet(b"any", source_port=port)) == Delivered(port % GROUP_SIZE)


@pytest.mark.programs("by_source_address")
def test_client_keeps_its_member_whatever_its_port(deliver: Delivery) -> None:
    """The address alone is the key: every port of a client reaches one member, and other clients reach others."""
    family = deliver.packet().family
    reached = set()
    for address in addresses(family, 40):
        verdicts = [deliver(deliver.packet(source_address=address)) for _ in range(3)]
        assert len(set(verdicts)) == 1
        reached.add(verdicts[0])
    assert len(reached) > GROUP_SIZE // 2


@pytest.mark.programs("by_hash")
def test_hash_of_the_context_names_the_member(deliver: Delivery) -> None:
    """`sk_reuseport_md.hash` is a key like any other; two packets of one four-tuple have one hash."""
    for _ in range(16):
        packet = deliver.packet()
        verdict = deliver(packet)
        assert verdict.hash is not None
        assert verdict == Delivered(verdict.hash % GROUP_SIZE)
        deliver.finish()
        assert deliver(packet) == verdict


@pytest.mark.programs("by_cpu")
def test_cpu_that_received_the_packet_names_the_member(deliver: Delivery, wire: Wire) -> None:
    """Packets that one CPU receives stay with one member; another CPU has another."""
    for cpu in wire.cpus:
        with wire.on_cpu(cpu):
            for _ in range(3):
                assert deliver(deliver.packet()) == Delivered(cpu % GROUP_SIZE)


@pytest.mark.programs("round_robin")
def test_members_take_turns(group: ReuseportGroup, deliver: Delivery) -> None:
    """Each packet goes to the member after the last one's, whoever sent it, and round again."""
    group.program.state = 0
    turns = [deliver(deliver.packet()) for _ in range(GROUP_SIZE + 3)]
    assert turns == [Delivered(turn % GROUP_SIZE) for turn in range(GROUP_SIZE + 3)]


@pytest.mark.programs("round_robin")
def test_turn_is_taken_by_an_empty_slot_too(group: ReuseportGroup, deliver: Delivery) -> None:
    """A program that counts before it selects loses the packet whose turn is an empty slot's."""
    group.program.state = 2
    group.clear_slot(3)
    assert [deliver(deliver.packet()) for _ in range(3)] == [Delivered(2), NO_SOCKET, Delivered(4)]


@pytest.mark.programs("random")
def test_random_path_can_be_walked_again(group: ReuseportGroup, deliver: Delivery) -> None:
    """The generator is part of the program: from the same seed it draws the same members."""
    paths = []
    for _ in range(2):
        group.program.state = SEED
        paths.append([deliver(deliver.packet()) for _ in range(24)])
    assert paths[0] == paths[1]
    assert len(set(paths[0])) > 8


@pytest.mark.programs(*EVERY_KEY)
def test_key_of_an_empty_slot_drops(group: ReuseportGroup, deliver: Delivery, wire: Wire) -> None:
    """Whatever the key, what it leads to has to be there: the modulo knows nothing of who has left."""
    for index in range(GROUP_SIZE):
        if index != (filled := 5):
            group.clear_slot(index)
    if "state_map" in group.program.maps:
        group.program.state = SEED
    verdicts = {deliver(deliver.packet()) for _ in range(4)}
    assert verdicts <= {NO_SOCKET, Delivered(filled)}
    assert NO_SOCKET in verdicts or wire.settings.cpu == filled


@pytest.mark.programs(*EVERY_KEY)
def test_missing_inner_map_drops(group: ReuseportGroup, deliver: Delivery) -> None:
    """Without an inner map no key leads anywhere; a program's memory has moved on all the same."""
    if "state_map" in group.program.maps:
        group.program.state = SEED
    group.withdraw_inner_map()
    assert deliver(deliver.packet()) == Dropped(Result.DROP_ERR_INNER_MAP)


@pytest.mark.programs("udp4_by_content")
def test_content_of_udp_over_ipv4_names_the_member(deliver: Delivery) -> None:
    """One session, one member, whoever sends it; IPv6 and TCP are passed on to the hash."""
    packet = deliver.packet()
    for session in range(24):
        content = session.to_bytes(4, "little") + b"request"
        verdict = deliver(deliver.packet(content))
        if packet.protocol is Protocol.UDP and packet.family is Family.IPV4:
            assert verdict == Delivered(fmix32(session) % GROUP_SIZE)
            assert deliver(deliver.packet(content + b", continued")) == verdict
        else:
            assert isinstance(verdict, Delivered)
            assert verdict.hash is not None
            assert verdict.member == verdict.hash * GROUP_SIZE >> 32


@udp
@pytest.mark.programs("udp4_by_content")
def test_content_that_is_too_short(deliver: Delivery) -> None:
    """Over IPv4 three bytes hold no session and are dropped; IPv6 is never looked into."""
    for length in range(4):
        verdict = deliver(deliver.packet(bytes(length)))
        assert isinstance(verdict, Dropped if deliver.packet().family is Family.IPV4 else Delivered)


@udp
@pytest.mark.programs("udp4_by_content")
def test_content_behind_the_linear_part(deliver: Delivery) -> None:
    """A session cut off by fragmentation is read all the same."""
    for session in range(8):
        content = session.to_bytes(4, "little") + bytes(60)
        assert isinstance(deliver(deliver.packet(content, fragments=(8, 32))), Delivered)


def short_header(cid: bytes) -> bytes:
    """Return the start of a QUIC packet with a short header (RFC 9000, section 17.3.1)."""
    return b"\x41" + cid + b"sealed payload"


def long_header(kind: int, cid: bytes) -> bytes:
    """Return the start of a QUIC packet with a long header (section 17.2): 0 Initial, 1 0-RTT, 2 Handshake, 3 Retry."""
    return bytes([0xC0 | kind << 4, 0, 0, 0, 1, len(cid)]) + cid + b"\x00sealed payload"


def server_cid(index: int) -> bytes:
    """Return a connection ID that the member at the index would choose."""
    return bytes([index, *range(0xA1, 0xA1 + CID_LENGTH - 1)])


@udp
@pytest.mark.programs("by_quic_index")
def test_quic_packet_reaches_the_member_that_chose_its_connection_id(deliver: Delivery) -> None:
    """The server's connection ID stays when the client's address does not: that is what migration in QUIC needs."""
    for index in range(GROUP_SIZE):
        assert deliver(deliver.packet(short_header(server_cid(index)))) == Delivered(index)
        assert deliver(deliver.packet(long_header(2, server_cid(index)))) == Delivered(index)
    family = deliver.packet().family
    for address in addresses(family, 4):
        assert deliver(deliver.packet(short_header(server_cid(9)), source_address=address)) == Delivered(9)


@udp
@pytest.mark.programs("by_quic_index", "by_quic_connection")
@pytest.mark.parametrize("kind", [0, 1], ids=["initial", "0-rtt"])
def test_quic_connection_id_of_the_client_is_left_to_the_hash(deliver: Delivery, kind: int) -> None:
    """Initial and 0-RTT carry an ID of the client's own choice, which names nobody, whatever its length."""
    for length in (CID_LENGTH, CID_LENGTH + 4, 20):
        cid = bytes([3, *[0] * (length - 1)])
        verdict = deliver(deliver.packet(long_header(kind, cid)))
        assert isinstance(verdict, Delivered)
        assert verdict.hash is not None
        assert verdict.member == verdict.hash * GROUP_SIZE >> 32


@udp
@pytest.mark.programs("by_quic_index", "by_quic_connection")
def test_what_is_no_quic_is_dropped(deliver: Delivery) -> None:
    """Without the fixed bit (RFC 9000, section 17) or cut before the connection ID's end, nothing can be read."""
    whole = short_header(server_cid(3))
    for payload in (b"", whole[:1], whole[:CID_LENGTH], b"\x01" + whole[1:], long_header(2, server_cid(3))[:10]):
        assert deliver(deliver.packet(payload)) == Dropped(Result.DROP_ERR_SKB_DATA)


@tcp
@pytest.mark.programs("by_quic_index")
def test_tcp_is_no_quic(deliver: Delivery) -> None:
    """A program for QUIC leaves a listener on the same port to the hash."""
    verdict = deliver(deliver.packet(short_header(server_cid(3))))
    assert isinstance(verdict, Delivered)
    assert verdict.hash is not None
    assert verdict.member == verdict.hash * GROUP_SIZE >> 32


@udp
@pytest.mark.programs("by_quic_index")
def test_quic_index_of_nobody_drops(group: ReuseportGroup, deliver: Delivery) -> None:
    """An index that no member has, or no longer, cannot be selected."""
    group.clear_slot(7)
    assert deliver(deliver.packet(short_header(server_cid(7)))) == NO_SOCKET
    assert deliver(deliver.packet(short_header(server_cid(GROUP_SIZE)))) == NO_SOCKET


@udp
@pytest.mark.programs("by_quic_connection")
def test_quic_connection_is_found_in_a_hash_of_sockets(group: ReuseportGroup, deliver: Delivery) -> None:
    """Each member enters the IDs it chose, any number of them; one that nobody entered is left to the hash."""
    for member in (4, 11):
        cid = bytes(range(member, member + CID_LENGTH))
        packet = deliver.packet(short_header(cid))
        unknown = deliver(packet)
        assert unknown.result is Result.PASS_ERR_SK_SELECT_REUSEPORT
        group.clear_slot(member)  # room in the hash
        group.set_slot(int.from_bytes(cid, "little"), member)
        assert deliver(packet) == Delivered(member)
        assert deliver(replace(packet, payload=long_header(2, cid))) == Delivered(member)
        assert deliver(replace(packet, payload=short_header(cid[::-1]))).result is unknown.result
