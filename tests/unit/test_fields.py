# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The fields that a hexdump marks are where they are said to be, and those that the choice of a member rests on."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from harness.model.abi import pack_indices
from harness.model.addresses import packed
from harness.model.consistent_hashing import maglev_table, rendezvous_nodes
from harness.model.decision import View
from harness.model.expect import destination
from harness.model.layout import Bind, Family, InnerMap, Layout, Protocol, Shape
from harness.model.packets import Packet, PacketFields
from harness.model.rules import RULES
from harness.model.variants import VARIANTS, Reads
from harness.wire import frames
from harness.wire.fields import fields_of
from vm.report.hexdump import hexdump

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.report.results import FieldEntry

CID = bytes(range(0xA1, 0xA9))
SHORT, LONG = b"\x41" + CID, b"\xe0\0\0\0\1\x08" + CID


def packet(protocol: Protocol, family: Family, payload: bytes = b"") -> Packet:
    return Packet(protocol=protocol, family=family, source_port=20003, payload=payload)


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("family", Family)
def test_fields_hold_what_the_packet_has(protocol: Protocol, family: Family) -> None:
    (frame,) = frames.opening(packet(protocol, family, pack_indices(3, 5)))
    bytes_of = {
        Reads.SOURCE_ADDRESS: packed(family.peer),
        Reads.DESTINATION_ADDRESS: packed(family.server),
        Reads.SOURCE_PORT: (20003).to_bytes(2, "big"),
        Reads.DESTINATION_PORT: (7000).to_bytes(2, "big"),
        Reads.INDEX: pack_indices(3, 5)[:4],
        Reads.SECOND_WORD: pack_indices(3, 5)[4:],
    }
    found = {field["name"]: field for field in fields_of(frame, tuple(bytes_of))}
    for name, data in bytes_of.items():
        assert frame[found[name]["start"] : found[name]["end"]] == data, name
        assert found[name]["key"], name
    said = {name: field["value"] for name, field in found.items() if "length" not in name}
    assert said == {
        "source address": family.peer, "destination address": family.server, "source port": "20003",
        "destination port": "7000", "index": "3", "second word": "5",
    }  # fmt: skip


def test_lengths_and_ports_are_shown_whatever_the_program_reads() -> None:
    (frame,) = frames.opening(packet(Protocol.UDP, Family.IPV4, b"12345678"))
    found = [(field["name"], field["value"], field["key"]) for field in fields_of(frame, ())]
    assert found == [
        ("IP length", "36", False), ("source port", "20003", False), ("destination port", "7000", False),
        ("UDP length", "16", False),
    ]  # fmt: skip


@pytest.mark.parametrize("payload", [SHORT, LONG])
def test_connection_id_is_found_behind_either_header(payload: bytes) -> None:
    (frame,) = frames.opening(packet(Protocol.UDP, Family.IPV6, payload))
    (cid,) = (field for field in fields_of(frame, (Reads.CONNECTION_ID,)) if field["key"])
    assert (frame[cid["start"] : cid["end"]], cid["value"]) == (CID, "a1 a2 a3 a4 a5 a6 a7 a8")


@pytest.mark.parametrize("family", Family)
def test_fragment_has_the_fields_that_are_in_it(family: Family) -> None:
    whole = replace(packet(Protocol.UDP, family, bytes(24)), fragments=(16,))
    first, second = frames.opening(whole)
    everything = tuple(Reads)
    assert {"source port", "index"} <= {field["name"] for field in fields_of(first, everything)}
    assert {field["name"] for field in fields_of(second, everything)} == {
        "IP length", "source address", "destination address",
    }  # fmt: skip


def test_short_payload_has_no_field_beyond_its_end() -> None:
    (frame,) = frames.opening(packet(Protocol.UDP, Family.IPV4, b"12"))
    names = {field["name"] for field in fields_of(frame, tuple(Reads))}
    assert "first byte" in names
    assert not names & {"index", "second word", "connection ID"}


# What the choice rests on, found by trying: each byte of the payload, and each part of the four-tuple.

SHAPE = Shape(protocol=Protocol.UDP, family=Family.IPV4, bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)
TABLES = {"maglev": maglev_table, "rendezvous": rendezvous_nodes}
IN_PAYLOAD = {
    Reads.INDEX: range(4),
    Reads.SECOND_WORD: range(4, 8),
    Reads.FIRST_BYTE: range(1),
    Reads.CONNECTION_ID: range(1, 9),
}
ELSEWHERE: dict[Reads, list[PacketFields]] = {
    Reads.SOURCE_ADDRESS: [{"source_address": f"198.51.100.{host}"} for host in range(1, 20)],
    Reads.SOURCE_PORT: [{"source_port": port} for port in range(30000, 30020)],
}


def choice(name: str, sent: Packet) -> object:
    """Return what the program decides and where the packet goes; the hash is any of the four-tuple."""
    table = tuple(TABLES[name](dict.fromkeys(range(3), 1))) if name in TABLES else ()
    slots = MappingProxyType({index: index for index in range(16) if index != 3})
    layout = Layout(shape=SHAPE, members=tuple(range(16)), slots=slots, program=name, size=16, table=table)
    hash_ = zlib.crc32(f"{sent.source} {sent.source_port}".encode())
    decision = RULES[name](View(packet=sent, payload=sent.payload, hash=hash_), layout)
    return decision.result, decision.member, decision.error, destination(layout, sent, hash_=hash_)


def payloads(name: str) -> Iterator[bytes]:
    """Yield payloads that lead to a member and, but for QUIC, to the empty slot."""
    if Reads.CONNECTION_ID in VARIANTS[name].reads:
        yield b"\x41\x02" + bytes(14)
        return
    yield from (pack_indices(first, second) + bytes(8) for first, second in ((1, 0), (3, 0), (1, 3)))


@pytest.mark.parametrize("name", RULES)
def test_choice_rests_on_what_is_marked_and_on_nothing_else(name: str) -> None:
    reads = VARIANTS[name].reads
    matters = set()
    for payload in payloads(name):
        usual = choice(name, packet(Protocol.UDP, Family.IPV4, payload))
        for place in range(len(payload)):
            for value in {0, 2, payload[place] ^ 0x10, 0xFF}:
                changed = payload[:place] + bytes([value]) + payload[place + 1 :]
                # Which of QUIC's headers it is, and not what the key is.
                if Reads.CONNECTION_ID in reads and place == 0:
                    continue
                if choice(name, packet(Protocol.UDP, Family.IPV4, changed)) != usual:
                    matters.add(place)
    assert matters == {place for read in reads if read in IN_PAYLOAD for place in IN_PAYLOAD[read]} or (
        # All bytes of an ID are looked up, but no slot has another one than the first byte's.
        name == "by_quic_index" and matters == {1}
    )
    sent = packet(Protocol.UDP, Family.IPV4, next(payloads(name)))
    for read, changes in ELSEWHERE.items():
        differs = any(choice(name, replace(sent, **change)) != choice(name, sent) for change in changes)
        assert differs == (read in reads), read


def test_hexdump_marks_the_fields_in_both_columns() -> None:
    fields: list[FieldEntry] = [
        {"name": "length", "value": "4", "start": 0, "end": 2, "key": False},
        {"name": "index", "value": "7", "start": 14, "end": 18, "key": True},
    ]
    text = str(hexdump(b"AB<" + bytes(range(3, 20)), fields))
    marks = re.findall(r'<mark class="(\w+)" title="([^"]+)">([^<]*)</mark>', text)
    assert marks == [
        ("field", "length 4", "41 42"), ("key", "index 7", "0e 0f"), ("field", "length 4", "AB"),
        ("key", "index 7", ".."), ("key", "index 7", "10 11"), ("key", "index 7", ".."),
    ]  # fmt: skip
    bare = re.sub(r"<[^>]+>", "", text)
    assert bare == (
        "0000  41 42 3c 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f  AB&lt;.............\n"
        "0010  10 11 12 13                                      ...."
    )


@pytest.mark.parametrize("order", [1, -1])
def test_key_is_marked_where_it_is_a_part_of_another_field(order: int) -> None:
    whole: FieldEntry = {"name": "UDP length", "value": "4", "start": 0, "end": 3, "key": False}
    part: FieldEntry = {"name": "first byte", "value": "2", "start": 1, "end": 2, "key": True}
    text = str(hexdump(b"\1\2\3", [whole, part][::order]))
    assert re.findall(r'class="(\w+)"[^>]*>([0-9a-f]{2})<', text) == [("field", "01"), ("key", "02"), ("field", "03")]
