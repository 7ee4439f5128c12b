# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which segments ask the program, and what a TCP group answers to those that open no connection.

A SYN that passes is answered, one that is dropped is reset. A segment that no connection knows is looked up like a
SYN: the program runs on it, though nothing can come of it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.model.abi import Result
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind
from harness.model.packets import SYN_SEQUENCE
from harness.wire import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.group.bench import Bench
    from harness.loader.program import Program
    from harness.model.packets import Packet

promise = pytest.mark.promise
families = pytest.mark.parametrize("family", Family)

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
FAST_OPEN, FAST_OPEN_SERVER = 34, 2


@pytest.fixture
def listeners(
    bench: Bench, load_program: Callable[..., Program], family: Family
) -> Iterator[tuple[Program, list[int]]]:
    """Return a program and the two listeners of its group, in slots 0 and 1."""
    with load_program("reference", size=4) as program:
        numbers = bench.group(2, Protocol.TCP, family)
        bench.attach(numbers[0], program)
        bench.fill(program.inner, numbers)
        yield program, numbers


@promise("tcp.flags")
@families
@pytest.mark.parametrize(
    ("flags", "runs", "reply"),
    [
        pytest.param(0, True, None, id="none"),
        pytest.param(SYN | RST, True, None, id="syn-rst"),
        pytest.param(SYN | FIN, False, None, id="syn-fin"),
        pytest.param(SYN | ACK, True, ReplyKind.RESET, id="syn-ack"),
        pytest.param(ACK, True, ReplyKind.RESET, id="ack"),
        pytest.param(PSH | ACK, True, ReplyKind.RESET, id="psh-ack"),
        pytest.param(FIN | ACK, False, ReplyKind.RESET, id="fin-ack"),
        pytest.param(RST, True, None, id="rst"),
        pytest.param(RST | ACK, True, None, id="rst-ack"),
        pytest.param(URG | PSH, True, None, id="urg-psh"),
        pytest.param(SYN | PSH | URG, True, ReplyKind.SYN_ACK, id="syn-psh-urg"),
        pytest.param(SYN, True, ReplyKind.SYN_ACK, id="syn"),
    ],
)
def test_flags_decide_the_answer_not_whether_the_program_runs(
    bench: Bench, listeners: tuple[Program, list[int]], family: Family, flags: int, runs: bool, reply: ReplyKind | None
) -> None:
    """A segment of no connection finds a listener through the program, whatever its flags say.

    The reference program counts none with FIN. An ACK is reset by the listener, what is neither SYN nor ACK dropped
    in silence (`tcp_rcv_state_process`, TCP_LISTEN).
    """
    program, _ = listeners
    packet = bench.packet(0, Protocol.TCP, family)
    replies = bench.wire.send(frames.segment(packet, flags, sequence=SYN_SEQUENCE, acknowledge=77))
    assert [each.kind for each in replies] == ([reply] if reply else [])
    assert program.new_results() == ({Result.PASS: 1} if runs else {})
    assert bench.read() == {}


@promise("tcp.flags-dropped")
@families
@pytest.mark.parametrize("flags", [SYN, ACK, SYN | ACK, PSH | ACK], ids=["syn", "ack", "syn-ack", "psh-ack"])
def test_dropped_segment_is_reset(
    bench: Bench, listeners: tuple[Program, list[int]], family: Family, flags: int
) -> None:
    """SK_DROP is no listener at all: the answer is that of a closed port (`tcp_v4_rcv`, no_tcp_socket)."""
    program, _ = listeners
    packet = bench.packet(3, Protocol.TCP, family)
    replies = bench.wire.send(frames.segment(packet, flags, sequence=SYN_SEQUENCE, acknowledge=77))
    assert [each.kind for each in replies] == [ReplyKind.RESET]
    assert program.new_results() == {Result.DROP_ERR_SK_SELECT_REUSEPORT: 1}


@promise("tcp.reset-is-not-answered")
@families
def test_dropped_reset_is_not_answered(bench: Bench, listeners: tuple[Program, list[int]], family: Family) -> None:
    """An RST is never reset, dropped or not."""
    program, _ = listeners
    packet = bench.packet(3, Protocol.TCP, family)
    assert bench.wire.send(frames.segment(packet, RST, sequence=SYN_SEQUENCE, acknowledge=0)) == []
    assert program.new_results() == {Result.DROP_ERR_SK_SELECT_REUSEPORT: 1}


@promise("tcp.established-runs-nothing")
@families
def test_segments_of_a_connection_ask_no_program(
    bench: Bench, listeners: tuple[Program, list[int]], family: Family
) -> None:
    """Once there is a request or a connection, its segments find it: the program ran for the SYN alone."""
    program, (_, second) = listeners
    packet = bench.packet(1, Protocol.TCP, family)
    assert bench.send_and_find(packet) == second
    assert program.new_results() == {Result.PASS: 1}
    data = frames.segment(packet, PSH | ACK, sequence=SYN_SEQUENCE + 1, acknowledge=1)
    bench.wire.send(data)
    assert program.new_results() == {}


@promise("tcp.syn-retransmitted")
@families
def test_syn_that_is_sent_again_asks_no_program(
    bench: Bench, listeners: tuple[Program, list[int]], family: Family
) -> None:
    """A repeated SYN finds the request that the first one left, and is answered from it."""
    program, _ = listeners
    packet = bench.packet(1, Protocol.TCP, family)
    assert bench.send_and_capture(packet) == [ReplyKind.SYN_ACK]
    assert program.new_results() == {Result.PASS: 1}
    assert bench.send_and_capture(packet) == [ReplyKind.SYN_ACK]
    assert program.new_results() == {}


@promise("tcp.request-outlives-slot")
@families
def test_request_keeps_to_its_listener(bench: Bench, listeners: tuple[Program, list[int]], family: Family) -> None:
    """What was selected for the SYN stays: emptying the slot, or detaching the program, changes no request."""
    program, (_, second) = listeners
    packet = bench.packet(1, Protocol.TCP, family)
    (answer,) = bench.wire.send(frames.syn(packet))
    bench.empty(program.inner, 1)
    bench.detach(second)
    assert answer.ack is not None
    bench.wire.send(frames.ack(packet, sequence=answer.ack, acknowledge=(answer.sequence + 1) & 0xFFFFFFFF))
    assert set(bench.read()) == {second}


@promise("tcp.listener-gone")
@families
def test_request_of_a_closed_listener_is_reset(
    bench: Bench, listeners: tuple[Program, list[int]], family: Family
) -> None:
    """Without migration (net.ipv4.tcp_migrate_req is 0) a request goes with its listener, though others are there."""
    _, (_, second) = listeners
    packet = bench.packet(1, Protocol.TCP, family)
    (answer,) = bench.wire.send(frames.syn(packet))
    bench[second].close()
    assert answer.ack is not None
    replies = bench.wire.send(frames.ack(packet, sequence=answer.ack, acknowledge=(answer.sequence + 1) & 0xFFFFFFFF))
    assert ReplyKind.RESET in [each.kind for each in replies]
    assert bench.read() == {}


@promise("tcp.syncookie")
@pytest.mark.ledger("K23")
@families
def test_cookie_of_one_listener_is_good_for_another(
    bench: Bench, listeners: tuple[Program, list[int]], family: Family
) -> None:
    """With cookies the program runs twice, on SYN and ACK; another listener may take the ACK (40a1227ea845)."""
    program, (first, _) = listeners
    bench.wire.settings.send_syncookies()
    packet = bench.packet(1, Protocol.TCP, family, ack_payload=bench.packet(0).payload)
    assert bench.send_and_find(packet) == first
    assert program.new_results() == {Result.PASS: 2}


@promise("tcp.syncookie-forged")
@families
def test_forged_cookie_is_reset(bench: Bench, listeners: tuple[Program, list[int]], family: Family) -> None:
    """An ACK that answers no cookie is reset by the listener that the program selects."""
    program, _ = listeners
    bench.wire.settings.send_syncookies()
    packet = bench.packet(0, Protocol.TCP, family)
    replies = bench.wire.send(frames.segment(packet, ACK, sequence=SYN_SEQUENCE + 1, acknowledge=12345))
    assert [each.kind for each in replies] == [ReplyKind.RESET]
    assert program.new_results() == {Result.PASS: 1}


@promise("tcp.doff-short", "tcp.doff-long")
@families
@pytest.mark.parametrize("words", [0, 4, 15], ids=["none", "below-its-own", "beyond-the-segment"])
def test_header_that_is_no_header_is_lost(
    bench: Bench, listeners: tuple[Program, list[int]], family: Family, words: int
) -> None:
    """A data offset below 5, or beyond the segment's end, is dropped before any lookup and not answered."""
    program, _ = listeners
    packet = bench.packet(0, Protocol.TCP, family)
    (frame,) = frames.segment(packet, SYN, sequence=SYN_SEQUENCE, acknowledge=0)
    assert bench.wire.send([frames.with_data_offset(packet, frame, words)]) == []
    assert program.new_results() == {}


@promise("tcp.options")
@families
@pytest.mark.parametrize("words", [5, 6, 10, 15])
def test_options_move_the_payload(
    bench: Bench, listeners: tuple[Program, list[int]], family: Family, words: int
) -> None:
    """The program finds the payload by the data offset: with 0 to 40 bytes of options the command is read."""
    program, _ = listeners
    packet = bench.packet(1, Protocol.TCP, family)
    options = b"\1" * (words - 5) * 4
    (frame,) = frames.segment(packet, SYN, sequence=SYN_SEQUENCE, acknowledge=0, payload=options + packet.payload)
    replies = bench.wire.send([frames.with_data_offset(packet, frame, words)])
    assert [each.kind for each in replies] == [ReplyKind.SYN_ACK]
    assert program.new_results() == {Result.PASS: 1}
    context, _ = program.context()
    assert context is not None
    assert context.length == words * 4 + len(packet.payload)


@promise("tcp.fast-open-cookie")
@families
def test_fast_open_cookie_is_the_servers_not_the_listeners(
    bench: Bench, listeners: tuple[Program, list[int]], family: Family
) -> None:
    """A cookie that one listener gave is good for another; a false one only costs the data of the SYN."""
    _, (first, second) = listeners
    bench.wire.settings.set("net/ipv4/tcp_fastopen", FAST_OPEN_SERVER)
    for number in (first, second):
        bench.allow_fast_open(number)
    asking = bench.packet(0, Protocol.TCP, family)
    (answer,) = bench.wire.send(with_option(asking, FAST_OPEN, b""))
    cookie = option_of(answer.options, FAST_OPEN)
    assert len(cookie) >= 4
    using = bench.packet(1, Protocol.TCP, family)
    (answer,) = bench.wire.send(with_option(using, FAST_OPEN, cookie))
    assert answer.ack == SYN_SEQUENCE + 1 + len(using.payload)
    assert set(bench.read()) == {second}
    lying = bench.packet(1, Protocol.TCP, family)
    (answer,) = bench.wire.send(with_option(lying, FAST_OPEN, bytes(len(cookie))))
    assert answer.ack == SYN_SEQUENCE + 1
    assert bench.read() == {}


def with_option(packet: Packet, kind: int, content: bytes) -> list[bytes]:
    """Return the packet's SYN with one option more."""
    option = bytes([kind, 2 + len(content)]) + content
    option += b"\1" * (-len(option) % 4)
    (frame,) = frames.segment(packet, SYN, sequence=SYN_SEQUENCE, acknowledge=0, payload=option + packet.payload)
    return [frames.with_data_offset(packet, frame, 5 + len(option) // 4)]


def option_of(options: bytes, kind: int) -> bytes:
    """Return an option's content from a TCP header's options."""
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        if options[at] == kind:
            return options[at + 2 : at + options[at + 1]]
        at += options[at + 1]
    raise AssertionError(f"no option {kind} in {options.hex(' ')}")


@promise("icmp.runs-nothing")
@pytest.mark.ledger("K22")
@families
@pytest.mark.parametrize("protocol", Protocol)
def test_icmp_error_runs_no_program(
    bench: Bench, load_program: Callable[..., Program], family: Family, protocol: Protocol
) -> None:
    """An ICMP error that quotes a packet of the group finds its socket without the program (4ac30c4b3659)."""
    with load_program("reference", size=1) as program:
        number = bench.open(protocol, family)
        bench.attach(number, program)
        bench.fill(program.inner, [number])
        packet = bench.packet(0, protocol, family)
        for _ in range(3):
            assert bench.wire.send([frames.port_unreachable(packet)]) == []
        assert program.new_results() == {}
        assert bench.send_and_find(packet) == number
        assert program.new_results() == {Result.PASS: 1}


@promise("icmp.port-unreachable")
@families
def test_dropped_datagram_is_unreachable(bench: Bench, load_program: Callable[..., Program], family: Family) -> None:
    """A dropped datagram is answered as one to a closed port, and counted in UdpNoPorts."""
    with load_program("reference", size=1) as program:
        number = bench.open(Protocol.UDP, family)
        bench.attach(number, program)
        before = no_ports(family)
        for _ in range(3):
            assert bench.send_and_capture(bench.packet(0, Protocol.UDP, family)) == [ReplyKind.PORT_UNREACHABLE]
        assert no_ports(family) == before + 3


def no_ports(family: Family) -> int:
    """Return the namespace's count of datagrams for no socket."""
    if family is Family.IPV6:
        lines = dict(line.split() for line in Path("/proc/self/net/snmp6").read_text().splitlines())
        return int(lines["Udp6NoPorts"])
    names, values = (line.split() for line in Path("/proc/self/net/snmp").read_text().splitlines() if "Udp:" in line)
    return int(values[names.index("NoPorts")])


@promise("tcp.length-of-syn")
@families
def test_length_counts_the_tcp_header(bench: Bench, listeners: tuple[Program, list[int]], family: Family) -> None:
    """`len` is the segment with its header and options."""
    program, _ = listeners
    packet = bench.packet(0, Protocol.TCP, family)
    bench.send_and_capture(packet)
    context, _ = program.context()
    assert context is not None
    assert context.length == struct.calcsize("=20sI8s")
