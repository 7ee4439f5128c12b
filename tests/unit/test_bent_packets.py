# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The model of reception against what is known of it otherwise, and bent packets as text."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies

from harness.campaign.bends import packet_of
from harness.campaign.files import read
from harness.campaign.saved_packets import SavedPackets, from_json, log_lines, spelled, to_json
from harness.model import reception
from harness.model.abi import Result
from harness.model.bent import Bent
from harness.model.expect import expect_without_hash
from harness.model.layout import Bind, Family, InnerMap, Layout, Protocol, Shape
from harness.model.life.behaviour import Behaviour
from harness.model.malformed import Checksum, Malformation
from harness.model.outcome import ReplyKind
from harness.model.packets import Packet
from harness.model.reception.expected import Ports, expect
from harness.model.reception.state import Reception
from harness.model.reception.ways import WAYS
from harness.model.uapi import TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from harness.plugins.kept_histories import HISTORIES, keep
from harness.wire import frames
from harness.wire.bend import bend

if TYPE_CHECKING:
    from harness.model.outcome import Outcome

PORTS = Ports(group=7000, assigned=8000)
HOP, OPTIONS, ROUTING, FRAGMENT = 0, 60, 43, 44
PADN = b"\0\0\1\4\0\0\0\0"


def layout(protocol: Protocol, family: Family) -> Layout:
    shape = Shape(protocol=protocol, family=family, bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)
    return Layout(shape=shape, members=tuple(range(9)), slots={place: place for place in range(8)})


def outcome(bent: Bent, like: Behaviour | None = None) -> Outcome:
    port = PORTS.assigned if bent.assigned else PORTS.group
    state = Reception(like or Behaviour())
    return expect(state, layout(bent.protocol, bent.family), PORTS, bend(bent, port))


def replies(bent: Bent, like: Behaviour | None = None) -> list[str]:
    return [f"{reply.kind} {reply.detail}".strip() for reply in outcome(bent, like).replies]


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize(
    "malformation",
    [
        Malformation(),
        Malformation(checksum=Checksum.WRONG),
        Malformation(vlans=(0,)),
        Malformation(vlans=(0, 7)),
        Malformation(hop_limit=0),
        Malformation(trailer=bytes(18)),
        Malformation(stated_length=0),
        Malformation(stated_length=7),
        Malformation(stated_length=12),
        Malformation(stated_length=16),
        Malformation(stated_length=17),
        Malformation(checksum=Checksum.ABSENT),
        Malformation(ipv4_options=b"\1\1\1\1"),
        Malformation(ipv6_extensions=((HOP, PADN), (OPTIONS, PADN))),
    ],
    ids=str,
)
@pytest.mark.parametrize("length", [8, 68, 69, 200])
def test_both_models_agree_on_what_cases_send(
    protocol: Protocol, family: Family, malformation: Malformation, length: int
) -> None:
    """The model of single packets knows how they were made, this one reads bytes: written apart, they agree."""
    made = Packet(
        protocol=protocol,
        family=family,
        source_port=20000,
        payload=(bytes([3]) + bytes(length))[:length],
        ack_payload=None,
        malformation=malformation,
    )
    try:
        data = frames.opening(made)
    except ValueError:
        pytest.skip("such a packet cannot be made")
    group = layout(protocol, family)
    assert expect(Reception(Behaviour()), group, PORTS, data) == expect_without_hash(group, made)


def test_ways_are_all_named() -> None:
    """What the modules note is in the list of ways, and nothing else."""
    noted: set[str] = set()
    for file in Path(reception.__file__).parent.glob("*.py"):
        if file.name != "ways.py":
            tree = ast.parse(file.read_text())
            noted |= {
                node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is str
            }
    made_up = {way for way in WAYS if way not in noted}
    functions = {
        "__udp4_lib_rcv",
        "__udp6_lib_rcv",
        "tcp_v4_rcv",
        "tcp_v6_rcv",
        "ipv6_parse_hopopts",
        "ipv6_destopt_rcv",
    }
    assert {way.partition(":")[0] for way in made_up} <= functions


@given(strategies.binary(min_size=10, max_size=10))
@settings(max_examples=300, deadline=None)
def test_drawn_packet_has_frames_and_takes_known_ways(data: bytes) -> None:
    bent = packet_of(data, assigning=True)
    state = Reception(Behaviour())
    port = PORTS.assigned if bent.assigned else PORTS.group
    made = bend(bent, port)
    assert all(14 <= len(frame) <= 1514 for frame in made)
    expect(state, layout(bent.protocol, bent.family), PORTS, made)
    assert set(state.taken) <= set(WAYS)


@given(strategies.binary(min_size=10, max_size=10))
@settings(max_examples=100, deadline=None)
def test_packet_survives_json_and_python(data: bytes) -> None:
    bent = packet_of(data, assigning=True)
    assert from_json(json.loads(json.dumps(to_json([bent])))) == (bent,)
    names = {"Bent": Bent, "Protocol": Protocol, "Family": Family, "Checksum": Checksum}
    assert eval(spelled(bent), names) == bent


def test_zero_length_is_a_jumbogram_but_where_that_is_a_bug() -> None:
    bent = Bent(family=Family.IPV6, index=2, stated_length=0)
    assert list(outcome(bent).received) == [2]
    assert outcome(bent, Behaviour(no_jumbograms=True)).received == {}
    assert outcome(Bent(index=2, stated_length=0)).received == {}


def test_assigned_member_stands_for_its_group_but_where_assigning_is_refused() -> None:
    assert list(outcome(Bent(index=2, assigned=True)).received) == [2]
    assert replies(Bent(index=2, assigned=True), Behaviour(refuses_assigning=True)) == [ReplyKind.PORT_UNREACHABLE]


def test_ninth_tag_is_lost_but_where_all_are_stripped() -> None:
    nine = Bent(vlans=(0,) * 9)
    assert outcome(nine).received == {}
    assert list(outcome(nine, Behaviour(strips_any_tags=True)).received) == [0]


@pytest.mark.parametrize(
    ("pieces", "arrives"),
    [
        (((0, 8, True), (8, 24, False)), True),
        (((8, 24, False), (0, 8, True)), True),
        (((0, 8, True), (0, 8, True), (8, 24, False)), True),
        (((0, 16, True), (8, 16, True), (16, 24, False)), True),  # inside a run: it came before
        (((0, 8, True), (16, 24, False)), False),
        (((0, 16, True), (8, 24, False)), False),
        (((0, 16, True), (16, 24, True)), False),
        (((8, 16, False), (16, 24, True), (0, 8, True)), False),
        (((16, 24, False), (8, 16, True), (0, 16, True)), False),  # over two runs: it overlaps
        (((0, 8, True), (8, 8, True), (8, 24, False)), False),
    ],
)
@pytest.mark.parametrize("family", Family)
def test_fragments_are_whole_or_nothing(
    family: Family, pieces: tuple[tuple[int, int, bool], ...], arrives: bool
) -> None:
    bent = Bent(family=family, index=5, payload=16, fragments=pieces)
    assert list(outcome(bent).received) == ([5] if arrives else [])


@pytest.mark.parametrize(
    ("bent", "answer"),
    [
        (Bent(next_header=253), "other ICMP type 3 code 2"),
        (Bent(options=b"\x1e\0\0\0"), "other ICMP type 12 code 0"),
        (Bent(family=Family.IPV6, next_header=253), "other ICMP type 4 code 1"),
        (Bent(family=Family.IPV6, extensions=((OPTIONS, b"\0\0\x9e\4\0\0\0\0"),)), "other ICMP type 4 code 2"),
        (Bent(family=Family.IPV6, extensions=((ROUTING, b"\0\0\0\1\0\0\0\0"),)), "other ICMP type 4 code 0"),
        (Bent(family=Family.IPV6, protocol=Protocol.TCP, fragments=((0, 16, True),)), "other ICMP type 4 code 3"),
        (Bent(protocol=Protocol.TCP, flags=TCP_ACK), ReplyKind.RESET),
        (Bent(index=8), ReplyKind.PORT_UNREACHABLE),
        (Bent(protocol=Protocol.TCP, index=8), ReplyKind.RESET),
    ],
)
def test_refused_packet_is_answered(bent: Bent, answer: str) -> None:
    assert replies(bent) == [answer]


@pytest.mark.parametrize("flags", [0, TCP_FIN, TCP_RST, TCP_SYN | TCP_FIN, TCP_RST | TCP_ACK])
def test_listener_ignores_what_opens_nothing(flags: int) -> None:
    assert replies(Bent(protocol=Protocol.TCP, flags=flags)) == []


def test_options_of_a_wrong_size_silence_a_reset_since_tcp_ao() -> None:
    bent = Bent(protocol=Protocol.TCP, index=2, payload=20, data_offset=11)
    assert outcome(bent).results == {Result.DROP_ERR_SKB_DATA: 1}
    assert replies(bent) == []
    assert replies(bent, Behaviour(silent_on_bad_options=False)) == [ReplyKind.RESET]


FOUND = SavedPackets(
    packets=(Bent(family=Family.IPV6, stated_length=0), Bent(extensions=((OPTIONS, PADN),))),
    difference="UDP over ipv6 …",
    sentence="nothing arrived",
    kernel="7.3.4",
    unknown=("K28",),
    seed=7,
    frames=("00" * 60, "01" * 70),
)


def test_packets_are_kept_and_read(tmp_path: Path) -> None:
    kept = keep(FOUND.to_json(), tmp_path)
    assert kept.parent == HISTORIES
    assert read(tmp_path / kept) == FOUND
    assert (tmp_path / kept).with_suffix(".pcap").stat().st_size == 24 + 16 + 60 + 16 + 70


def test_case_to_paste_sends_the_same_packets() -> None:
    names: dict[str, object] = {}
    exec(FOUND.as_case(), names)
    seen = []
    names["test_packets"](lambda *packets, unknown: seen.append((packets, unknown)))  # type: ignore[operator]
    assert seen == [(FOUND.packets, FOUND.unknown)]


def test_last_packets_in_a_console_are_read(tmp_path: Path) -> None:
    before, last = [Bent(index=1)] * 3, [Bent(index=place, options=b"\1" * 40) for place in range(30)]
    lines = [f"[ 1.0] {line}" for packets in (before, last) for line in log_lines(packets)]
    assert len(lines) > 3
    assert max(map(len, lines)) < 976
    (tmp_path / "console.log").write_text("\n".join([*lines, "[ 2.1] BUG: a fault"]))
    found = read(tmp_path / "console.log")
    assert isinstance(found, SavedPackets)
    assert found.packets == tuple(last)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"version": 9}, "version 9, and this harness reads version 1"),
        ({"packets": {}}, "no list"),
        ({"packets": [[]]}, "packet 1, .* no mapping"),
        ({"packets": [{}, {"colour": 1}]}, "packet 2: 'colour' is none of"),
        ({"packets": [{"version": 16}]}, "version 16: it is no number from 0 to 15"),
        ({"packets": [{"options": "0101"}]}, "not a multiple of 4"),
        ({"packets": [{"fragments": [[0, 8]]}]}, "packet 1: fragments"),
        ({"packets": [{"assigned": 1}]}, "neither true nor false"),
        ({"frames": "00"}, '"frames" is no list'),
        ({"seed": "x"}, "no number"),
    ],
)
def test_file_that_holds_no_packets_is_refused(tmp_path: Path, changed: dict[str, object], complaint: str) -> None:
    (tmp_path / "packets.json").write_text(json.dumps(FOUND.to_json() | changed))
    with pytest.raises(ValueError, match=complaint):
        read(tmp_path / "packets.json")
