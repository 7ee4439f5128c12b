# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""MPTCP listeners: each is in a group by the TCP socket inside it, together with plain TCP listeners.

An MPTCP socket is of a protocol of its own, so no map of sockets takes it and no program can be attached through it;
but the group knows only its first subflow, a TCP socket.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import closing, contextmanager
from itertools import count
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family, promise, requires, returning
from harness.group.sockets import disconnect
from harness.kernel.refusal import refused
from harness.loader.maps import create_map
from harness.loader.program import attach_classic
from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind
from harness.model.packets import SYN_SEQUENCE
from harness.model.uapi import (
    ENOTSUPP,
    IPPROTO_MPTCP,
    SO_ATTACH_REUSEPORT_EBPF,
    TCP_ACK,
)
from harness.wire.options import option_of, segment_with_option, syn_with_option
from harness.wire.sock_diag import kill, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import Bench, LoadProgram, Packet
    from harness.model.outcome import Reply

pytestmark = requires("mptcp")

MP_CAPABLE = 30
"""The kind of MPTCP's option (RFC 8684); its first byte here: MP_CAPABLE, version 1; its second: HMAC-SHA256."""
ASKING = bytes([0x01, 0x01])
CLIENT_KEY = bytes(range(1, 9))
_ports = count(10000)
"""No port twice: what is left of an MPTCP connection outlives its socket."""

SOL_MPTCP, MPTCP_INFO = 284, 1  # include/linux/socket.h, include/uapi/linux/mptcp.h
PORT = 9200
"""Away from all others: what is left of an MPTCP connection keeps the port for a while."""


@pytest.fixture(autouse=True)
def port(bench: Bench) -> None:
    """Give these cases a port of their own."""
    bench.port = PORT


def speaks_mptcp(connection: socket.socket) -> bool:
    """Return whether a connection that was accepted is one of MPTCP: one that fell back to TCP has TCP's options."""
    try:
        info = connection.getsockopt(SOL_MPTCP, MPTCP_INFO, 64)
    except OSError as error:
        if error.errno not in {errno.ENOPROTOOPT, errno.EOPNOTSUPP}:
            raise
        return False
    (flags,) = struct.unpack_from("=I", info, 8)
    return not flags & 1  # MPTCP_INFO_FLAG_FALLBACK


def open_mptcp(bench: Bench, family: Family) -> int:
    """Open an MPTCP listener on the bench's port; return its number."""
    made = socket.socket(family.address_family, socket.SOCK_STREAM, IPPROTO_MPTCP)
    number = bench.adopt(made)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bench.bind(number, family)
    return number


def select_always(bench: Bench, number: int, place: int) -> None:
    """Let a classic program of a socket's group choose one place, always."""
    attach_classic(bench[number], returning(place))


def ask(bench: Bench, family: Family) -> tuple[Packet, Reply]:
    """Send a SYN that asks for MPTCP; return it with the SYN-ACK."""
    packet = bench.packet(0, Protocol.TCP, family, payload=b"", source_port=next(_ports))
    answer = bench.send_syn(packet, syn_with_option(packet, MP_CAPABLE, ASKING))
    assert answer.kind is ReplyKind.SYN_ACK
    return packet, answer


def complete(bench: Bench, packet: Packet, answer: Reply) -> list[ReplyKind]:
    """Send the ACK of an MPTCP handshake, which has the keys of both sides; return the kinds of replies."""
    server_key = option_of(answer.options, MP_CAPABLE)[2:10]
    assert len(server_key) == 8
    frames = segment_with_option(
        packet, TCP_ACK, MP_CAPABLE, ASKING + CLIENT_KEY + server_key,
        sequence=SYN_SEQUENCE + 1, acknowledge=answer.sequence + 1,
    )  # fmt: skip
    return bench.send_frames(frames)


@contextmanager
def accepted(bench: Bench) -> Iterator[socket.socket]:
    """Take the connection that was accepted, and reset it in the end.

    Closing it with SO_LINGER does not reset it everywhere: 6.16.12, 6.17.13 and 6.18.15 send a FIN, and wait a minute
    for the peer's. connect() to AF_UNSPEC does (`mptcp_disconnect`).
    """
    (connection,) = bench.take_connections()
    with closing(connection):
        yield connection
        disconnect(connection)


@promise("mptcp.hash")
@each_family
def test_mptcp_listeners_share_connections(bench: Bench, family: Family) -> None:
    """MPTCP listeners of one port are a group: the hash shares connections among them, of plain TCP here."""
    members = [open_mptcp(bench, family) for _ in range(4)]
    assert set(bench.send_and_find_each(bench.packets(60, 0, Protocol.TCP, family))) == set(members)


@promise("mptcp.no-program")
@each_family
def test_no_program_is_attached_through_an_mptcp_socket(
    bench: Bench, load_for_test: LoadProgram, family: Family
) -> None:
    """Attaching a program through an MPTCP socket is EOPNOTSUPP (`mptcp_setsockopt_sol_socket`)."""
    number = open_mptcp(bench, family)
    with refused(errno.EOPNOTSUPP):
        bench.set_option(number, SO_ATTACH_REUSEPORT_EBPF, load_for_test("reference", size=1).fd)
    with refused(errno.EOPNOTSUPP):
        select_always(bench, number, 0)


@promise("mptcp.no-slot")
@each_family
@pytest.mark.parametrize(
    ("kind", "number"), [("sockarray", ENOTSUPP), ("sockmap", errno.EOPNOTSUPP), ("sockhash", errno.EOPNOTSUPP)]
)
def test_mptcp_listener_fits_in_no_map(bench: Bench, family: Family, kind: str, number: int) -> None:
    """An MPTCP listener fits in no map of sockets: 524 of a sockarray, EOPNOTSUPP of the others."""
    listener = open_mptcp(bench, family)
    made = create_map(kind, max_entries=1)
    try:
        with refused(number):
            bench.fill(made, [listener])
    finally:
        made.close()


@promise("mptcp.mixed")
@each_family
def test_plain_and_mptcp_listeners_are_one_group(bench: Bench, load_for_test: LoadProgram, family: Family) -> None:
    """Plain and MPTCP listeners of one port are one group: a program attached through TCP decides for both.

    It can select the plain ones alone; a classic program, and the hash, choose among all.
    """
    members = [bench.open(Protocol.TCP, family), open_mptcp(bench, family), bench.open(Protocol.TCP, family)]
    assert set(bench.send_and_find_each(bench.packets(60, 0, Protocol.TCP, family))) == set(members)
    for place in range(3):
        select_always(bench, members[0], place)
        assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == members[place]
    program = load_for_test("reference", size=2)
    bench.attach(members[0], program)
    bench.fill(program.inner, [members[2], members[0]])
    packets = [bench.packet(index, Protocol.TCP, family) for index in range(2)]
    assert bench.send_and_find_each(packets) == [members[2], members[0]]


@promise("mptcp.capable")
@each_family
def test_only_an_mptcp_listener_agrees_to_mptcp(bench: Bench, family: Family) -> None:
    """A SYN that asks for MPTCP gets it from an MPTCP listener, and plain TCP from a plain one of the same group."""
    members = [bench.open(Protocol.TCP, family), open_mptcp(bench, family)]
    for place, agrees in ((0, False), (1, True)):
        select_always(bench, members[0], place)
        packet, answer = ask(bench, family)
        assert bool(option_of(answer.options, MP_CAPABLE)) == agrees
        if agrees:
            assert complete(bench, packet, answer) == []
            assert bench.read() == {members[1]: [b""]}
            with accepted(bench) as connection:
                assert speaks_mptcp(connection)


@promise("mptcp.kill")
@each_family
@requires("sock_destroy")
def test_first_subflow_of_a_listener_cannot_be_killed(bench: Bench, family: Family) -> None:
    """The TCP socket inside an MPTCP listener is listed by sock_diag, but killing it is EINVAL.

    It would leave the listener without what it listens by (`tcp_abort_override`).
    """
    number = open_mptcp(bench, family)
    (subflow,) = listed(Protocol.TCP, family, bench.port)
    with refused(errno.EINVAL):
        kill(Protocol.TCP, family, subflow.id)
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == number


@promise("mptcp.migration")
@each_family
@requires("tcp_migrate_req")
@pytest.mark.parametrize(("early", "still"), [(True, False), (False, True)], ids=["established", "request"])
def test_mptcp_connection_migrates(bench: Bench, family: Family, early: bool, still: bool) -> None:
    """What asked an MPTCP listener for MPTCP migrates; a request stays one for MPTCP, a connection becomes plain TCP.

    Before the listener ends it ends the MPTCP part of what it did not accept (`mptcp_subflow_queue_clean`).
    """
    bench.wire.settings.set("net/ipv4/tcp_migrate_req", 1)
    leaving, staying = open_mptcp(bench, family), open_mptcp(bench, family)
    plain = bench.open(Protocol.TCP, family)
    select_always(bench, plain, 0)
    packet, answer = ask(bench, family)
    bench[plain].close()
    if early:
        assert complete(bench, packet, answer) == []
    bench[leaving].close()
    if not early:
        assert complete(bench, packet, answer) == []
    assert bench.read() == {staying: [b""]}
    with accepted(bench) as connection:
        assert speaks_mptcp(connection) == still
