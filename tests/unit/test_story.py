# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The witness's pure half: bytes to events, events to sentences, names to functions of a kernel."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from harness.trace import probes
from harness.trace.events import (
    EVENTS,
    LOG_SIZE,
    SIZE,
    Arrival,
    Event,
    Kind,
    Reading,
    Socket,
    decode,
    in_order,
    read_log,
)
from harness.trace.probes import PROBES, Probe, locate
from harness.trace.story import Evidence, Words, split, tell
from harness.trace.tracer import FIELDS, Symbols, drop_reasons, one_text
from harness.trace.witness import SOURCES

_MINUS_ECONNREFUSED = (1 << 64) - 111
_THIRD = Socket(cookie=33, inode=3)
_WORDS = Words(
    cookies={33: "member 3", 34: "member 4"},
    reasons={3: "NO_SOCKET"},
    places={0xFFFFFFFF81000000: "udp_rcv", 1: "udp_rcv"},
)


def arrived(*, protocol: int = 17, flags: int = 0, skb: int = 1) -> Event:
    arrival = Arrival(
        protocol=protocol,
        source="192.0.2.9",
        source_port=20000,
        destination="192.0.2.1",
        destination_port=7000,
        length=16,
        tcp_flags=flags,
    )
    return Event(kind=Kind.ARRIVED, skb=skb, arrival=arrival)


def group(**changes: int) -> Event:
    fields = {"value": 0x80000000, "id": 7, "members": 32, "program": 41, "type": 21, "reason": 5, **changes}
    return Event(kind=Kind.GROUP, skb=1, **fields)  # type: ignore[arg-type]


def story_of(*events: Event, lost: int = 0, missing: tuple[str, ...] = ()) -> list[str]:
    return str(tell(events, _WORDS, lost=lost, missing=missing)).splitlines()


def chosen(kind: Kind, socket: Socket = _THIRD) -> Event:
    return Event(kind=kind, skb=1, value=0xFFFF888000000000, socket=socket)


def test_selection_by_program_is_told_in_order_and_names_the_member() -> None:
    helper = Event(kind=Kind.HELPER, skb=1, id=17, type=20, value=3, socket=_THIRD)
    lookup = Event(kind=Kind.LOOKUP, skb=1, detail=1)
    ends = [chosen(kind) for kind in (Kind.PROGRAM, Kind.SELECTED, Kind.QUEUED)]
    assert story_of(arrived(), lookup, group(), helper, *ends) == [
        "UDP 192.0.2.9:20000 > 192.0.2.1:7000, len 16",
        "  lookup    UDP over IPv4 looks for a socket (__udp4_lib_lookup)",
        "  group     id 7: 32 members bound to any address; program 41 (SK_REUSEPORT) decides",
        "  hash      0x80000000, which falls on place 16 of 32",
        "  helper    bpf_sk_select_reuseport(sockarray 17, key 3) = 0: member 3",
        "  program   SK_PASS with member 3",
        "  selected  member 3, by the program",
        "  queued    on the receive queue of member 3",
    ]


def test_drop_tells_the_helpers_answer_the_verdict_and_the_reason() -> None:
    helper = Event(kind=Kind.HELPER, skb=1, id=17, type=20, value=40, reason=-2)
    program = Event(kind=Kind.PROGRAM, skb=1, value=_MINUS_ECONNREFUSED)
    selected = Event(kind=Kind.SELECTED, skb=1, value=_MINUS_ECONNREFUSED)
    icmp = Event(kind=Kind.ICMP, skb=1, detail=3, flags=3)
    drop = Event(kind=Kind.DROP, skb=1, value=0xFFFFFFFF81000000, reason=3)
    assert story_of(arrived(), helper, program, selected, icmp, drop)[1:] == [
        "  helper    bpf_sk_select_reuseport(sockarray 17, key 40) = -2 (ENOENT: No such file or directory)",
        "  program   not SK_PASS: drop",
        "  selected  none: the packet is to be dropped",
        "  answered  with ICMP port unreachable",
        "  dropped   NO_SOCKET in udp_rcv",
    ]


def test_fall_back_is_told_apart_from_a_choice() -> None:
    passed = Event(kind=Kind.PROGRAM, skb=1)
    assert story_of(arrived(), group(), passed, chosen(Kind.SELECTED))[-2:] == [
        "  program   SK_PASS, and no socket selected",
        "  selected  member 3, by the hash: the program left the choice to it",
    ]
    without = group(program=0, type=0, reason=0)
    assert story_of(arrived(), without, chosen(Kind.SELECTED))[1::2] == [
        "  group     id 7: 32 members bound to one address; no program is attached",
        "  selected  member 3, by the hash",
    ]
    classic = group(program=0, type=0, reason=4)
    assert story_of(arrived(), classic, chosen(Kind.SELECTED))[-1] == (
        "  selected  member 3, by the place that the program returned or, where that is none, by the hash"
    )


def test_tcp_is_told_from_syn_to_accept_queue() -> None:
    syn, ack = arrived(protocol=6, flags=0x02), arrived(protocol=6, flags=0x10)
    told = story_of(syn, chosen(Kind.REQUEST), ack, chosen(Kind.ACCEPT))
    assert told == [
        "TCP SYN 192.0.2.9:20000 > 192.0.2.1:7000, len 16",
        "  request   kept for member 3, answered with a SYN-ACK",
        "TCP ACK 192.0.2.9:20000 > 192.0.2.1:7000, len 16",
        "  queued    on the accept queue of member 3",
    ]
    assert story_of(syn, chosen(Kind.ACCEPT))[-1] == "  queued    on the accept queue of member 3, by fast open"


def test_migration_outside_of_any_packet_has_a_path_of_its_own() -> None:
    fourth = Socket(cookie=34)
    away = Event(kind=Kind.MIGRATE, socket=_THIRD, type=12)
    to = Event(kind=Kind.MIGRATED, value=0xFFFF888000000000, socket=fourth)
    nowhere = Event(kind=Kind.MIGRATED)
    assert story_of(arrived(), away, to, away, nowhere)[1:] == [
        "a listener closes",
        "  migrate   a connection in NEW_SYN_RECV looks for another listener than member 3",
        "  migrated  to member 4",
        "a listener closes",
        "  migrate   a connection in NEW_SYN_RECV looks for another listener than member 3",
        "  migrated  to none: it is given up",
    ]


def test_unknown_sockets_are_named_by_number() -> None:
    assert story_of(arrived(), chosen(Kind.QUEUED, Socket(cookie=5)))[-1].endswith("the socket with cookie 5")
    assert story_of(arrived(), chosen(Kind.QUEUED, Socket(inode=6)))[-1].endswith("the socket with inode 6")


def test_what_is_missing_is_said() -> None:
    assert story_of(missing=("the accept queue",), lost=4) == [
        "nothing arrived for UDP or TCP",
        "note: this kernel does not let the witness see the accept queue",
        "note: 4 earlier events were written over before they were read",
    ]
    drop = Event(kind=Kind.DROP, skb=1, value=1, reason=0)
    assert story_of(arrived(), drop)[-1] == "  dropped   in udp_rcv; this kernel gives no reason"
    unknown = Event(kind=Kind.DROP, skb=1, value=1, reason=900)
    assert story_of(arrived(), unknown)[-1] == "  dropped   reason 900 in udp_rcv"


def test_each_packet_begins_a_path() -> None:
    events = [arrived(), chosen(Kind.QUEUED), arrived(skb=1), arrived(skb=2)]
    assert [len(path) for path in split(events)] == [2, 1, 1]


def record(kind: Kind, number: int) -> bytes:
    return struct.pack("=QQHBBI", number, 9, kind, 0, 0, 0) + struct.pack("=QQIIIIHHI", 33, number, 3, 0, 0, 0, 0, 0, 0)


def test_records_are_read_as_they_are_laid_out() -> None:
    head = struct.pack("=QQHBBI", 5, 9, Kind.ARRIVED, 6, 0x12, 32)
    source, destination = bytes(15) + b"\x09", bytes(15) + b"\x01"
    body = source + destination + (20000).to_bytes(2, "big") + (7000).to_bytes(2, "big") + struct.pack("=I", 6)
    assert len(head + body) == SIZE
    event = decode(head + body)
    assert event.arrival == Arrival(
        protocol=6, source="::9", source_port=20000, destination="::1", destination_port=7000, length=32, tcp_flags=0x12
    )
    assert (event.time, event.skb) == (5, 9)
    helper = struct.pack("=QQHBBI", 1, 9, Kind.HELPER, 0, 0, 4)
    answer = struct.pack("=QQIIIIHHI", 0, 40, 0, 17, 0, 20, 0, 0, 0xFFFFFFFE)
    assert decode(helper + answer) == Event(
        kind=Kind.HELPER, time=1, skb=9, length=4, value=40, id=17, type=20, reason=-2
    )


@pytest.mark.parametrize(("count", "since", "first"), [(3, 0, 0), (3, 3, 3), (EVENTS + 5, 0, 5), (EVENTS + 5, 7, 7)])
def test_log_is_read_from_where_it_was_left_and_overruns_are_counted(count: int, since: int, first: int) -> None:
    log = bytearray(LOG_SIZE)
    struct.pack_into("=Q", log, 0, count)
    for number in range(count):
        start = 8 + number % EVENTS * SIZE
        log[start : start + SIZE] = record(Kind.QUEUED, number)
    records, lost, now = read_log(bytes(7) + bytes(log), 7, since)
    assert [event.value for event in in_order(records)] == list(range(first, count))
    assert (lost, now) == (first - since, count)


def test_evidence_travels_with_the_words_it_needs_and_no_others() -> None:
    drop = struct.pack("=QQHBBI", 2, 9, Kind.DROP, 0, 0, 0) + struct.pack("=QQIIIIHHI", 0, 77, 0, 0, 0, 0, 0, 0, 3)
    reading = Reading(records=(drop, record(Kind.QUEUED, 1)), lost=2)
    evidence = Evidence.gather(
        [reading],
        names={33: "member 3", 34: "member 4"},
        reasons={3: "NO_SOCKET", 4: "OTHER"},
        symbol=lambda address: f"at_{address}",
        missing=("the accept queue",),
    )
    assert (dict(evidence.words.cookies), dict(evidence.words.reasons)) == ({33: "member 3"}, {3: "NO_SOCKET"})
    arrived_evidence = Evidence.unpack(json.loads(json.dumps(evidence.pack())))
    assert arrived_evidence == evidence
    assert str(arrived_evidence.story()).splitlines() == [
        "outside of any packet",
        "  queued    on the receive queue of member 3",
        "  dropped   NO_SOCKET in at_77",
        "note: this kernel does not let the witness see the accept queue",
        "note: 2 earlier events were written over before they were read",
    ]


_SYMBOLS = b"""0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000100 T udp_rcv
ffffffff81000200 t tcp_v4_send_reset.isra.0
ffffffff81000300 t udp_rcv.cold
ffffffffc0000000 t helper\t[veth]
ffffffffc0000100 t udp_rcv\t[other]
"""


def test_functions_are_found_by_name_and_copies_only_where_no_argument_is_read() -> None:
    reset = Probe(shows="", symbols=("tcp_v4_send_reset",), clone=True)
    strict = Probe(shows="", symbols=("tcp_v4_send_reset",))
    renamed = Probe(shows="", symbols=("new_name", "udp_rcv"))
    assert locate(reset, _SYMBOLS) == "tcp_v4_send_reset.isra.0"
    assert locate(strict, _SYMBOLS) is None
    assert locate(renamed, _SYMBOLS) == "udp_rcv"


def test_every_probe_has_its_functions_in_the_tracer() -> None:
    text = one_text(SOURCES).decode()
    for probe in PROBES:
        for name in filter(None, (probe.enter, probe.leave)):
            assert f"int {name}(struct pt_regs *ctx)" in text, probe


def test_tracers_use_every_file_and_the_compiler_names_lines_by_their_own_file() -> None:
    directory = Path(probes.__file__).parent
    assert {FIELDS, "watch.c", *SOURCES} == {path.name for path in directory.glob("*.[ch]")}
    lines = one_text([FIELDS, *SOURCES]).decode().splitlines()
    for name in (FIELDS, *SOURCES):
        text = (directory / name).read_text().splitlines()
        start = lines.index(f'#line 1 "{directory / name}"') + 1
        assert lines[start : start + len(text)] == text


@pytest.mark.parametrize(
    ("address", "name"),
    [(0xFFFFFFFF81000100, "udp_rcv"), (0xFFFFFFFF810001FF, "udp_rcv"), (0xFFFFFFFF81000345, "udp_rcv.cold")],
)
def test_address_has_the_name_of_the_function_that_it_lies_in(address: int, name: str) -> None:
    assert Symbols(_SYMBOLS).at(address) == name


def test_drop_reasons_are_read_from_the_tracepoints_format() -> None:
    text = 'print fmt: "reason: %s", __print_symbolic(REC->reason, { 2, "NOT_SPECIFIED" }, { 3, "NO_SOCKET" })'
    assert drop_reasons(text) == {2: "NOT_SPECIFIED", 3: "NO_SOCKET"}
