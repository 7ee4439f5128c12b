# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The witness's pure half: bytes to events, events to steps, names to functions of a kernel."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from harness.interface.steps import (
    CookieAccepted,
    CookieSent,
    Dropped,
    GroupFound,
    HashComputed,
    HelperCalled,
    IcmpSent,
    ListenerClosed,
    Migrated,
    MigrationStarted,
    NoPacket,
    PacketArrived,
    ProgramReturned,
    Queued,
    RequestKept,
    ResetSent,
    SocketLookup,
    SocketSelected,
    Step,
)
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
from harness.trace.evidence import Evidence, Names
from harness.trace.probes import PROBES, Probe, locate
from harness.trace.story import paths_of, split, story_of
from harness.trace.tracer import FIELDS, Symbols, drop_reasons, one_text
from harness.trace.witness import SOURCES

_MINUS_ECONNREFUSED = (1 << 64) - 111
_POINTER = 0xFFFF888000000000
_THIRD = Socket(cookie=33, inode=3)
_NAMES = Names(
    sockets={33: "member 3", 34: "member 4"},
    drop_reasons={3: "NO_SOCKET"},
    functions={0xFFFFFFFF81000000: "udp_rcv", 1: "udp_rcv"},
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


def chosen(kind: Kind, socket: Socket = _THIRD) -> Event:
    return Event(kind=kind, skb=1, value=_POINTER, socket=socket)


def steps_of(*events: Event) -> list[Step]:
    """Return the steps of the one path that events tell of, behind a packet's arrival."""
    (path,) = paths_of([arrived(), *events], _NAMES)
    return list(path.steps)


def test_arrival_begins_the_path_of_its_packet() -> None:
    (udp, tcp) = paths_of([arrived(), arrived(protocol=6, flags=0x12)], _NAMES)
    assert udp.start == PacketArrived(
        protocol="UDP",
        tcp_flags="",
        source="192.0.2.9",
        source_port=20000,
        destination="192.0.2.1",
        destination_port=7000,
        length=16,
    )
    assert isinstance(tcp.start, PacketArrived)
    assert (tcp.start.protocol, tcp.start.tcp_flags) == ("TCP", "SYN ACK")


def test_selection_by_program_names_the_member_in_each_step() -> None:
    lookup = Event(kind=Kind.LOOKUP, skb=1, detail=1)
    helper = Event(kind=Kind.HELPER, skb=1, id=17, type=20, value=3, socket=_THIRD)
    ends = [chosen(kind) for kind in (Kind.PROGRAM, Kind.SELECTED, Kind.QUEUED)]
    assert steps_of(lookup, group(), helper, *ends) == [
        SocketLookup(protocol="UDP", family="IPv4", function="__udp4_lib_lookup"),
        GroupFound(
            id=7,
            members=32,
            closed=0,
            any_address=True,
            connected=False,
            program_type="SK_REUSEPORT",
            program_id=41,
        ),
        HashComputed(value=0x80000000, position=16, members=32),
        HelperCalled(map_type="sockarray", map_id=17, key=3, result=0, socket="member 3"),
        ProgramReturned(verdict="SK_PASS", socket="member 3"),
        SocketSelected(socket="member 3", by="program"),
        Queued(queue="receive", socket="member 3", fast_open=False),
    ]


def test_drop_by_the_program_has_the_helpers_error_and_the_drop_reason() -> None:
    helper = Event(kind=Kind.HELPER, skb=1, id=17, type=20, value=40, reason=-2)
    program = Event(kind=Kind.PROGRAM, skb=1, value=_MINUS_ECONNREFUSED)
    selected = Event(kind=Kind.SELECTED, skb=1, value=_MINUS_ECONNREFUSED)
    drop = Event(kind=Kind.DROP, skb=1, value=0xFFFFFFFF81000000, reason=3)
    assert steps_of(helper, program, selected, drop) == [
        HelperCalled(map_type="sockarray", map_id=17, key=40, result=-2, socket=None),
        ProgramReturned(verdict="SK_DROP", socket=None),
        SocketSelected(socket=None, by="drop"),
        Dropped(function="udp_rcv", reason="NO_SOCKET"),
    ]


def test_selection_by_hash_says_whether_a_program_ran() -> None:
    passed = Event(kind=Kind.PROGRAM, skb=1)
    assert steps_of(group(), passed, chosen(Kind.SELECTED))[-2:] == [
        ProgramReturned(verdict="SK_PASS", socket=None),
        SocketSelected(socket="member 3", by="hash after program"),
    ]
    without = group(program=0, type=0, reason=0)
    assert steps_of(without, chosen(Kind.SELECTED))[-1] == SocketSelected(socket="member 3", by="hash")
    classic = group(program=0, type=0, reason=4)
    assert steps_of(classic, chosen(Kind.SELECTED))[-1] == SocketSelected(
        socket="member 3", by="classic program or hash"
    )
    assert steps_of(without, Event(kind=Kind.SELECTED, skb=1))[-1] == SocketSelected(socket=None, by="lookup")


def test_group_has_its_flags_and_its_program() -> None:
    without, classic = (steps_of(group(program=0, type=0, reason=reason, closed=2, members=1))[0] for reason in (2, 4))
    assert without == GroupFound(
        id=7, members=1, closed=2, any_address=False, connected=True, program_type=None, program_id=0
    )
    assert isinstance(classic, GroupFound)
    assert (classic.program_type, classic.connected) == ("classic BPF", False)


def test_handshake_leads_from_request_to_accept_queue() -> None:
    syn, ack = arrived(protocol=6, flags=0x02), arrived(protocol=6, flags=0x10)
    first, second = paths_of([syn, chosen(Kind.REQUEST), ack, chosen(Kind.ACCEPT)], _NAMES)
    assert first.steps == (RequestKept(socket="member 3"),)
    assert second.steps == (Queued(queue="accept", socket="member 3", fast_open=False),)
    (fast,) = paths_of([syn, chosen(Kind.ACCEPT)], _NAMES)
    assert fast.steps == (Queued(queue="accept", socket="member 3", fast_open=True),)


def test_answers_and_cookies_are_steps() -> None:
    port, other = (Event(kind=Kind.ICMP, skb=1, detail=3, flags=code) for code in (3, 13))
    sent, reset = (Event(kind=kind, skb=1) for kind in (Kind.COOKIE_SENT, Kind.RESET))
    assert steps_of(port, other, sent, chosen(Kind.COOKIE_TAKEN), reset) == [
        IcmpSent(type=3, code=3, port_unreachable=True),
        IcmpSent(type=3, code=13, port_unreachable=False),
        CookieSent(),
        CookieAccepted(socket="member 3"),
        ResetSent(),
    ]


def test_migration_outside_of_any_packet_has_a_path_of_its_own() -> None:
    away = Event(kind=Kind.MIGRATE, socket=_THIRD, type=12)
    to = Event(kind=Kind.MIGRATED, value=_POINTER, socket=Socket(cookie=34))
    nowhere = Event(kind=Kind.MIGRATED)
    _, first, second = paths_of([arrived(), away, to, away, nowhere], _NAMES)
    assert first.start == second.start == ListenerClosed()
    assert first.steps == (MigrationStarted(state="NEW_SYN_RECV", socket="member 3"), Migrated(socket="member 4"))
    assert second.steps[-1] == Migrated(socket=None)


def test_unknown_sockets_are_named_by_number() -> None:
    for socket, name in (
        (Socket(cookie=5), "the socket with cookie 5"),
        (Socket(inode=6), "the socket with inode 6"),
    ):
        assert steps_of(chosen(Kind.QUEUED, socket)) == [Queued(queue="receive", socket=name, fast_open=False)]


@pytest.mark.parametrize(("number", "reason"), [(0, None), (2, None), (3, "NO_SOCKET"), (900, "reason 900")])
def test_drop_has_the_kernels_reason_where_there_is_one(number: int, reason: str | None) -> None:
    drop = Event(kind=Kind.DROP, skb=1, value=1, reason=number)
    assert steps_of(drop) == [Dropped(function="udp_rcv", reason=reason)]


def test_every_kind_of_event_becomes_a_step_or_a_start() -> None:
    for kind in Kind:
        event = Event(kind=kind, skb=1, detail=1, socket=_THIRD, value=_POINTER)
        (path,) = paths_of([event], _NAMES)
        assert path.steps or kind is Kind.ARRIVED


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


def test_evidence_travels_with_the_names_it_needs_and_no_others() -> None:
    drop = struct.pack("=QQHBBI", 2, 9, Kind.DROP, 0, 0, 0) + struct.pack("=QQIIIIHHI", 0, 77, 0, 0, 0, 0, 0, 0, 3)
    reading = Reading(records=(drop, record(Kind.QUEUED, 1)), lost=2)
    evidence = Evidence.gather(
        [reading],
        sockets={33: "member 3", 34: "member 4"},
        drop_reasons={3: "NO_SOCKET", 4: "OTHER"},
        function_at=lambda address: f"at_{address}",
        missing=("the accept queue",),
    )
    assert evidence.names == Names(sockets={33: "member 3"}, drop_reasons={3: "NO_SOCKET"}, functions={77: "at_77"})
    arrived_evidence = Evidence.unpack(json.loads(json.dumps(evidence.pack())))
    assert arrived_evidence == evidence
    story = story_of(arrived_evidence)
    assert (story.missing, story.lost) == (("the accept queue",), 2)
    (path,) = story.paths
    assert path.start == NoPacket()
    assert path.steps == (
        Queued(queue="receive", socket="member 3", fast_open=False),
        Dropped(function="at_77", reason="NO_SOCKET"),
    )


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
