# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Frames whose bytes were patched are what scapy itself would have built."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, defragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, defragment6
from scapy.layers.l2 import Ether
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from harness.model.layout import Family, Protocol
from harness.model.malformed import Malformation
from harness.model.outcome import Reply, ReplyKind
from harness.model.packets import ACK_HEADER, TRANSPORT_HEADER, Packet
from harness.wire import frames

ports = st.integers(0, 65535)
payloads = st.binary(max_size=64)
families = st.sampled_from(Family)


def rebuilt(frame: bytes) -> bytes:
    """Return the frame with lengths and checksums left to scapy."""
    parsed = Ether(frame)
    for layer in (IP, UDP, TCP):
        if layer in parsed:
            for field in ("chksum", "len"):
                if field in parsed[layer].fields:
                    del parsed[layer].fields[field]
    return bytes(parsed)


def network(family: Family, frame: bytes) -> ScapyPacket:
    parsed = Ether(frame)[IP if family is Family.IPV4 else IPv6]
    assert (parsed.src, parsed.dst) == (family.peer, family.server)
    return parsed


@given(family=families, source_port=ports, destination_port=ports, payload=payloads)
def test_datagram_is_what_scapy_builds(family: Family, source_port: int, destination_port: int, payload: bytes) -> None:
    packet = Packet(
        protocol=Protocol.UDP,
        family=family,
        source_port=source_port,
        destination_port=destination_port,
        payload=payload,
    )
    (frame,) = frames.datagram(packet)
    assert frame == rebuilt(frame)
    udp = network(family, frame)[UDP]
    assert (udp.sport, udp.dport, bytes(udp.payload)) == (source_port, destination_port, payload)
    assert udp.len == packet.transport_length


@given(
    family=families,
    sources=st.lists(st.tuples(ports, st.sampled_from(["192.0.2.9", "198.51.100.7", None])), min_size=1),
    data=st.data(),
)
def test_many_datagrams_are_what_each_would_be(
    family: Family, sources: list[tuple[int, str | None]], data: st.DataObject
) -> None:
    if family is Family.IPV6:
        sources = [(port, address and "2001:db8::" + address.rpartition(".")[2]) for port, address in sources]
    length = 2 * data.draw(st.integers(0, 8))
    carried = [data.draw(st.binary(min_size=length, max_size=length)) for _ in sources]
    packets = [
        Packet(protocol=Protocol.UDP, family=family, source_port=port, source_address=address, payload=payload)
        for (port, address), payload in zip(sources, carried, strict=True)
    ]
    alone = [frame for packet in packets for frame in frames.datagram(packet)]
    assert frames.datagrams([replace(packet, payload=b"another") for packet in packets], carried) == alone


@pytest.mark.parametrize(
    ("changes", "length", "words"),
    [
        ({"fragments": (8,)}, 16, "one by one"),
        ({"malformation": Malformation(hop_limit=1)}, 16, "one by one"),
        ({}, 5, "even length, not 5"),
    ],
    ids=["fragmented", "malformed", "odd-length"],
)
def test_batch_refuses_what_it_cannot_make(changes: dict[str, Any], length: int, words: str) -> None:
    packet = Packet(protocol=Protocol.UDP, family=Family.IPV4, source_port=1, **changes)
    with pytest.raises(ValueError, match=words):
        frames.datagrams([packet], [bytes(length)])


@pytest.mark.parametrize(
    ("family", "group", "mac"),
    [
        # RFC 1112, section 6.4: the low 23 bits of the address; RFC 2464, section 7: the low 32 bits
        (Family.IPV4, "239.1.2.3", "01:00:5e:01:02:03"),
        (Family.IPV4, "239.129.2.3", "01:00:5e:01:02:03"),
        (Family.IPV6, "ff05::1:2:3", "33:33:00:02:00:03"),
        (Family.IPV4, "192.0.2.255", "ff:ff:ff:ff:ff:ff"),
    ],
)
def test_frame_for_a_group_has_the_groups_mac(family: Family, group: str, mac: str) -> None:
    (frame,) = frames.datagram(Packet(protocol=Protocol.UDP, family=family, source_port=1, payload=b"x"))
    sent = frames.to_group(frame, family, group)
    assert Ether(sent).dst == mac
    assert sent == rebuilt(sent)
    assert Ether(sent)[IP if family is Family.IPV4 else IPv6].dst == group


def test_handshake_is_completed_by_what_the_syn_ack_says() -> None:
    packet = Packet(protocol=Protocol.TCP, family=Family.IPV4, source_port=40000)
    syn_ack = Reply(kind=ReplyKind.SYN_ACK, address="192.0.2.9", port=40000, ack=1001, sequence=0xFFFFFFFF)
    assert frames.completing(packet, syn_ack, b"x") == frames.ack(packet, sequence=1001, acknowledge=0, payload=b"x")
    with pytest.raises(ValueError, match="acknowledges nothing"):
        frames.completing(packet, replace(syn_ack, kind=ReplyKind.RESET, ack=None))


def test_opening_is_the_datagram_or_the_syn() -> None:
    udp = Packet(protocol=Protocol.UDP, family=Family.IPV4, source_port=1)
    tcp = replace(udp, protocol=Protocol.TCP)
    assert frames.opening(udp) == frames.datagram(udp)
    assert frames.opening(tcp) == frames.syn(tcp)


@given(family=families, source_port=ports, payload=payloads)
def test_syn_is_what_scapy_builds(family: Family, source_port: int, payload: bytes) -> None:
    packet = Packet(protocol=Protocol.TCP, family=family, source_port=source_port, payload=payload)
    (frame,) = frames.syn(packet)
    tcp = network(family, frame)[TCP]
    assert (tcp.sport, tcp.flags, bytes(tcp.payload)) == (source_port, "S", payload)
    assert tcp.dataofs * 4 == TRANSPORT_HEADER[Protocol.TCP]
    # scapy writes a checksum of zero as it is; all ones is the same number to whoever verifies it
    assert tcp.chksum in {Ether(rebuilt(frame))[TCP].chksum or 0xFFFF}


@given(family=families, sequence=st.integers(0, 2**32 - 1), acknowledge=st.integers(0, 2**32 - 1), payload=payloads)
def test_ack_carries_its_numbers(family: Family, sequence: int, acknowledge: int, payload: bytes) -> None:
    packet = Packet(protocol=Protocol.TCP, family=family, source_port=40000)
    (frame,) = frames.ack(packet, sequence=sequence, acknowledge=acknowledge, payload=payload)
    tcp = network(family, frame)[TCP]
    assert (tcp.seq, tcp.ack, tcp.flags, bytes(tcp.payload)) == (sequence, acknowledge, "A", payload)
    assert tcp.dataofs * 4 == ACK_HEADER
    assert tcp.chksum in {Ether(rebuilt(frame))[TCP].chksum or 0xFFFF}


@pytest.mark.parametrize("cuts", [(8,), (16,), (8, 16, 64)])
@given(family=families, payload=st.binary(min_size=100, max_size=300))
def test_fragments_are_put_together_again(family: Family, cuts: tuple[int, ...], payload: bytes) -> None:
    packet = Packet(protocol=Protocol.UDP, family=family, source_port=40000, payload=payload, fragments=cuts)
    parts = frames.datagram(packet)
    assert len(parts) == len(cuts) + 1
    (whole,) = frames.datagram(Packet(protocol=Protocol.UDP, family=family, source_port=40000, payload=payload))
    if family is Family.IPV4:
        (together,) = defragment([Ether(part)[IP] for part in parts])
    else:
        together = defragment6([Ether(part)[IPv6] for part in parts])
        assert all(IPv6ExtHdrFragment in Ether(part) for part in parts)
    expected = network(family, whole)
    assert bytes(together.payload) == bytes(expected.payload)


@given(sequence=st.integers(0, 65535))
def test_ping_has_a_valid_checksum(sequence: int) -> None:
    parsed = Ether(frames.ping(sequence))
    assert parsed[ICMP].seq == sequence
    checksum = parsed[ICMP].chksum
    del parsed[ICMP].chksum
    # RFC 1624: the two zeros of ones' complement are one number
    assert checksum % 0xFFFF == Ether(bytes(parsed))[ICMP].chksum % 0xFFFF


def test_payload_of_one_packet_does_not_leak_into_the_next() -> None:
    first, second = (
        Packet(protocol=Protocol.UDP, family=Family.IPV4, source_port=40000, payload=payload)
        for payload in (b"\xff" * 8, b"\x01" * 8)
    )
    frames.datagram(first)
    assert bytes(Ether(frames.datagram(second)[0])[Raw]) == b"\x01" * 8
