# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The segments of TCP that run the program, and the group's answers to those that open no connection.

A SYN that passes is answered, one that is dropped is reset. A segment of no connection is looked up like a SYN: the
program runs on it, though it opens nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.cases import INITIAL_SIZE, each_family, each_protocol, ledger, promise, recorded
from harness.group.netstat import counter
from harness.model import uapi
from harness.model.abi import Result
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind
from harness.model.packets import SYN_SEQUENCE
from harness.wire import frames
from harness.wire.options import FAST_OPEN, option_of, syn_with_option

if TYPE_CHECKING:
    from harness.cases import AttachReference, Bench, Program

FIN, SYN, RST = uapi.TCP_FIN, uapi.TCP_SYN, uapi.TCP_RST
PSH, ACK, URG = uapi.TCP_PSH, uapi.TCP_ACK, uapi.TCP_URG
FAST_OPEN_SERVER = 2


class Listeners(NamedTuple):
    """Two listeners of one group, in slots 0 and 1 of its program's map."""

    program: Program
    first: int
    second: int


@pytest.fixture
def listeners(bench: Bench, attach_reference: AttachReference, family: Family) -> Listeners:
    """Return two listeners under the reference program; slots 2 and 3 are empty."""
    first, second = bench.group(2, Protocol.TCP, family)
    return Listeners(attach_reference([first, second], slots=4), first, second)


@promise("tcp.flags")
@each_family
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
    bench: Bench, listeners: Listeners, family: Family, flags: int, runs: bool, reply: ReplyKind | None
) -> None:
    """The program runs on every segment of no connection, whatever its flags; the listener answers as they say.

    The reference program counts none with FIN. An ACK is reset by the listener, what is neither SYN nor ACK dropped
    in silence (`tcp_rcv_state_process`, TCP_LISTEN).
    """
    packet = bench.packet(0, Protocol.TCP, family)
    replies = bench.send_frames(frames.segment(packet, flags, sequence=SYN_SEQUENCE, acknowledge=77))
    assert replies == ([reply] if reply else [])
    assert listeners.program.new_results() == ({Result.PASS: 1} if runs else {})
    assert bench.read() == {}


@promise("tcp.flags-dropped")
@each_family
@pytest.mark.parametrize("flags", [SYN, ACK, SYN | ACK, PSH | ACK], ids=["syn", "ack", "syn-ack", "psh-ack"])
def test_dropped_segment_is_reset(bench: Bench, listeners: Listeners, family: Family, flags: int) -> None:
    """A segment that the program drops is reset, as at a closed port (`tcp_v4_rcv`, no_tcp_socket)."""
    packet = bench.packet(3, Protocol.TCP, family)
    replies = bench.send_frames(frames.segment(packet, flags, sequence=SYN_SEQUENCE, acknowledge=77))
    assert replies == [ReplyKind.RESET]
    assert listeners.program.new_results() == {Result.DROP_ERR_SK_SELECT_REUSEPORT: 1}


@promise("tcp.reset-is-not-answered")
@each_family
def test_dropped_reset_is_not_answered(bench: Bench, listeners: Listeners, family: Family) -> None:
    """An RST that the program drops is not answered."""
    packet = bench.packet(3, Protocol.TCP, family)
    assert bench.wire.send(frames.segment(packet, RST, sequence=SYN_SEQUENCE, acknowledge=0)) == []
    assert listeners.program.new_results() == {Result.DROP_ERR_SK_SELECT_REUSEPORT: 1}


@promise("tcp.established-runs-nothing")
@each_family
def test_segments_of_a_connection_ask_no_program(bench: Bench, listeners: Listeners, family: Family) -> None:
    """Segments of a connection do not run the program: it ran for the SYN alone."""
    packet = bench.packet(1, Protocol.TCP, family)
    assert bench.send_and_find(packet) == listeners.second
    assert listeners.program.new_results() == {Result.PASS: 1}
    bench.wire.send(frames.segment(packet, PSH | ACK, sequence=SYN_SEQUENCE + 1, acknowledge=1))
    assert listeners.program.new_results() == {}


@promise("tcp.syn-retransmitted")
@each_family
def test_syn_that_is_sent_again_asks_no_program(bench: Bench, listeners: Listeners, family: Family) -> None:
    """A repeated SYN is answered from the request that the first one left, without the program."""
    packet = bench.packet(1, Protocol.TCP, family)
    assert bench.send_and_capture(packet) == [ReplyKind.SYN_ACK]
    assert listeners.program.new_results() == {Result.PASS: 1}
    assert bench.send_and_capture(packet) == [ReplyKind.SYN_ACK]
    assert listeners.program.new_results() == {}


@promise("tcp.request-outlives-slot")
@each_family
def test_request_keeps_to_its_listener(bench: Bench, listeners: Listeners, family: Family) -> None:
    """A request stays with the listener that was selected for the SYN, also when slot and program are gone."""
    packet = bench.packet(1, Protocol.TCP, family)
    syn_ack = bench.send_syn(packet)
    bench.clear_slot(listeners.program.inner, 1)
    bench.detach(listeners.second)
    bench.send_ack(packet, syn_ack)
    assert set(bench.read()) == {listeners.second}


@promise("tcp.listener-gone")
@each_family
def test_request_of_a_closed_listener_is_reset(bench: Bench, listeners: Listeners, family: Family) -> None:
    """A request is reset when its listener closes, though the group has others (net.ipv4.tcp_migrate_req is 0)."""
    packet = bench.packet(1, Protocol.TCP, family)
    syn_ack = bench.send_syn(packet)
    bench[listeners.second].close()
    assert ReplyKind.RESET in bench.send_ack(packet, syn_ack)
    assert bench.read() == {}


@promise("tcp.syncookie")
@ledger("K23")
@each_family
def test_cookie_of_one_listener_is_good_for_another(bench: Bench, listeners: Listeners, family: Family) -> None:
    """With SYN cookies the program runs on SYN and ACK, and another listener may take the ACK (40a1227ea845)."""
    bench.wire.settings.send_syncookies()
    packet = bench.packet(1, Protocol.TCP, family, ack_payload=bench.packet(0).payload)
    assert bench.send_and_find(packet) == listeners.first
    assert listeners.program.new_results() == {Result.PASS: 2}


@promise("tcp.syncookie-growth")
@each_family
def test_cookie_is_good_for_the_group_that_has_grown(bench: Bench, family: Family) -> None:
    """A SYN cookie is good though the group has grown since: it still knows when it sent the last one."""
    bench.wire.settings.send_syncookies()
    bench.group(2, Protocol.TCP, family)
    packet = bench.packet(0, Protocol.TCP, family)
    syn_ack = bench.send_syn(packet)
    bench.group(INITIAL_SIZE, Protocol.TCP, family)
    assert bench.send_ack(packet, syn_ack) == []
    assert [len(connections) for connections in bench.read().values()] == [1]


@promise("tcp.syncookie-of-another-group")
@each_family
def test_cookie_is_no_good_for_the_next_group_on_the_port(bench: Bench, family: Family) -> None:
    """A SYN cookie is reset by a group that sent none itself, though the one before it on the port did.

    A group that sent none takes its last for sent when jiffies were 0, which is 300 seconds after the boot: for two
    minutes from then on it takes any good cookie (`tcp_synq_no_recent_overflow`).
    """
    bench.wire.settings.send_syncookies()
    bench.group(2, Protocol.TCP, family)
    packet = bench.packet(0, Protocol.TCP, family)
    syn_ack = bench.send_syn(packet)
    bench.close()
    bench.group(2, Protocol.TCP, family)
    since_jiffies_were_0 = float(Path("/proc/uptime").read_text().split()[0]) - 300
    replies = bench.send_ack(packet, syn_ack)
    assert replies == [ReplyKind.RESET] or -5 < since_jiffies_were_0 < 125


@promise("tcp.syncookie-forged")
@each_family
def test_forged_cookie_is_reset(bench: Bench, listeners: Listeners, family: Family) -> None:
    """An ACK with a forged SYN cookie runs the program and is reset by the listener that it selects."""
    bench.wire.settings.send_syncookies()
    packet = bench.packet(0, Protocol.TCP, family)
    replies = bench.send_frames(frames.segment(packet, ACK, sequence=SYN_SEQUENCE + 1, acknowledge=12345))
    assert replies == [ReplyKind.RESET]
    assert listeners.program.new_results() == {Result.PASS: 1}


@promise("tcp.doff-short", "tcp.doff-long")
@each_family
@pytest.mark.parametrize("words", [0, 4, 15], ids=["none", "below-its-own", "beyond-the-segment"])
def test_segment_with_a_wrong_data_offset_is_lost(
    bench: Bench, listeners: Listeners, family: Family, words: int
) -> None:
    """A segment with a data offset below 5, or beyond its end, is lost before any lookup and not answered."""
    packet = bench.packet(0, Protocol.TCP, family)
    (frame,) = frames.segment(packet, SYN, sequence=SYN_SEQUENCE, acknowledge=0)
    assert bench.wire.send([frames.with_data_offset(packet, frame, words)]) == []
    assert listeners.program.new_results() == {}


@promise("tcp.options")
@each_family
@pytest.mark.parametrize("words", [5, 6, 10, 15])
def test_options_move_the_payload(bench: Bench, listeners: Listeners, family: Family, words: int) -> None:
    """The program finds the payload by the data offset, behind 0 to 40 bytes of options; `len` counts these."""
    packet = bench.packet(1, Protocol.TCP, family)
    options = b"\1" * (words - 5) * 4
    (frame,) = frames.segment(packet, SYN, sequence=SYN_SEQUENCE, acknowledge=0, payload=options + packet.payload)
    assert bench.send_frames([frames.with_data_offset(packet, frame, words)]) == [ReplyKind.SYN_ACK]
    assert listeners.program.new_results() == {Result.PASS: 1}
    assert recorded(listeners.program).length == words * 4 + 8


@promise("tcp.fast-open-cookie")
@each_family
def test_fast_open_cookie_is_the_servers_not_the_listeners(bench: Bench, listeners: Listeners, family: Family) -> None:
    """A fast-open cookie that one listener gave is good for another; with a false one the SYN's data is not taken."""
    bench.wire.settings.set("net/ipv4/tcp_fastopen", FAST_OPEN_SERVER)
    for number in (listeners.first, listeners.second):
        bench.allow_fast_open(number)
    asking = bench.packet(0, Protocol.TCP, family)
    answer = bench.send_syn(asking, syn_with_option(asking, FAST_OPEN, b""))
    cookie = option_of(answer.options, FAST_OPEN)
    assert len(cookie) >= 4
    using = bench.packet(1, Protocol.TCP, family)
    answer = bench.send_syn(using, syn_with_option(using, FAST_OPEN, cookie))
    assert answer.ack == SYN_SEQUENCE + 1 + len(using.payload)
    assert set(bench.read()) == {listeners.second}
    lying = bench.packet(1, Protocol.TCP, family)
    answer = bench.send_syn(lying, syn_with_option(lying, FAST_OPEN, bytes(len(cookie))))
    assert answer.ack == SYN_SEQUENCE + 1
    assert bench.read() == {}


@promise("icmp.runs-nothing")
@ledger("K22")
@each_family
@each_protocol
def test_icmp_error_runs_no_program(
    bench: Bench, attach_reference: AttachReference, family: Family, protocol: Protocol
) -> None:
    """An ICMP error that quotes a packet of the group finds its socket without the program (4ac30c4b3659)."""
    number = bench.open(protocol, family)
    program = attach_reference([number])
    packet = bench.packet(0, protocol, family)
    assert bench.wire.send([frames.port_unreachable(packet)] * 3) == []
    assert program.new_results() == {}
    assert bench.send_and_find(packet) == number
    assert program.new_results() == {Result.PASS: 1}


@promise("icmp.port-unreachable")
@each_family
def test_dropped_datagram_is_unreachable(bench: Bench, attach_reference: AttachReference, family: Family) -> None:
    """A datagram that the program drops is answered as one to a closed port, and counted in UdpNoPorts."""
    attach_reference([bench.open(Protocol.UDP, family)])
    no_ports = "UdpNoPorts" if family is Family.IPV4 else "Udp6NoPorts"
    before = counter(no_ports)
    packets = bench.packets(3, 1, Protocol.UDP, family)
    assert bench.send_and_watch_each(packets) == [(None, [ReplyKind.PORT_UNREACHABLE])] * 3
    assert counter(no_ports) == before + 3


@promise("tcp.length-of-syn")
@each_family
def test_length_counts_the_tcp_header(bench: Bench, listeners: Listeners, family: Family) -> None:
    """`len` of a SYN counts the TCP header, its options and the payload: 20 + 4 + 8 bytes here."""
    bench.send_and_capture(bench.packet(0, Protocol.TCP, family))
    assert recorded(listeners.program).length == 32


ALL_HOSTS = {Family.IPV4: "192.0.2.255", Family.IPV6: "ff02::1"}


@promise("tcp.to-all")
@each_family
def test_syn_to_all_hosts_is_selected_for_and_not_answered(bench: Bench, listeners: Listeners, family: Family) -> None:
    """A SYN to a broadcast or multicast address, in a frame for the server, runs the program; nobody answers it.

    The group is on the wildcard, which such an address fits, too. The listener counts the SYN as lost.
    """
    before = counter("TcpExtListenDrops")
    (frame,) = frames.syn(bench.packet(0, Protocol.TCP, family))
    assert bench.send_frames([frames.to_group(frame, family, ALL_HOSTS[family], as_unicast=True)]) == []
    assert listeners.program.new_results() == {Result.PASS: 1}
    assert counter("TcpExtListenDrops") == before + 1


@promise("tcp.to-the-link")
@each_family
def test_syn_in_a_broadcast_frame_runs_no_program(bench: Bench, listeners: Listeners, family: Family) -> None:
    """A SYN to the server's address in a frame for everyone on the link is lost before any lookup."""
    (frame,) = frames.syn(bench.packet(0, Protocol.TCP, family))
    assert bench.send_frames([frames.to_all_on_the_link(frame)]) == []
    assert listeners.program.new_results() == {}
    assert bench.send_frames([frame]) == [ReplyKind.SYN_ACK]


@promise("tcp.short")
@each_family
@pytest.mark.parametrize("length", [0, 8, 19])
def test_segment_shorter_than_its_header_is_lost(
    bench: Bench, listeners: Listeners, family: Family, length: int
) -> None:
    """A segment of fewer than 20 bytes is lost before any lookup and not answered."""
    packet = bench.packet(0, Protocol.TCP, family)
    assert bench.send_frames([frames.cut_short(packet, length)]) == []
    assert listeners.program.new_results() == {}
    assert bench.send_and_capture(packet) == [ReplyKind.SYN_ACK]


@promise("tcp.mapped-source")
@pytest.mark.parametrize("family", [Family.IPV6])
def test_syn_from_a_mapped_address_is_selected_for_and_not_answered(
    bench: Bench, listeners: Listeners, family: Family
) -> None:
    """A SYN over IPv6 from an address that stands for one of IPv4 runs the program, and nobody answers it."""
    before = counter("Ip6InHdrErrors")
    packet = bench.packet(0, Protocol.TCP, family, source_address="::ffff:c000:209")
    assert bench.send_frames(frames.syn(packet)) == []
    assert listeners.program.new_results() == {Result.PASS: 1}
    assert counter("Ip6InHdrErrors") == before + 1
