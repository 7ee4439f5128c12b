# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""An example of your own cases, for tests/examples/quic_server.bpf.c; docs/own-program.md tells how to run them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from harness.cases import each_family, requires
from harness.model.layout import Family, Protocol

if TYPE_CHECKING:
    from harness.cases import Bench, OwnProgram

pytestmark = [requires("select_from_sockmap", "udp_in_sockmap"), each_family]

SHORT, LONG = b"\x40", b"\xc0"


def open_server(bench: Bench, program: OwnProgram, family: Family) -> list[int]:
    """Open four sockets; connection N is socket N's."""
    sockets = bench.group(4, Protocol.UDP, family)
    bench.attach(sockets[0], program.fd)
    for number in sockets:
        program.maps["connections"].update(connection(number), struct.pack("=Q", bench[number].fileno()))
    return sockets


def connection(number: int) -> bytes:
    """Return a connection ID of eight bytes."""
    return number.to_bytes(8, "big")


def test_connection_reaches_its_socket_from_anywhere(bench: Bench, own_program: OwnProgram, family: Family) -> None:
    """A client that changes its address keeps its connection."""
    for number in open_server(bench, own_program, family):
        payload = SHORT + connection(number) + b"data"
        assert bench.send_and_find_each(bench.packets(10, 0, Protocol.UDP, family, payload=payload)) == [number] * 10


def test_new_clients_are_shared(bench: Bench, own_program: OwnProgram, family: Family) -> None:
    """A new client's Initial, which has a long header, is left to the hash: each of the four gets some."""
    sockets = open_server(bench, own_program, family)
    payload = LONG + connection(0) + bytes(1191)
    assert set(bench.send_and_find_each(bench.packets(80, 0, Protocol.UDP, family, payload=payload))) == set(sockets)


def test_short_packet_without_connection_is_dropped(bench: Bench, own_program: OwnProgram, family: Family) -> None:
    """A packet with a short header that ends before the connection ID does is dropped."""
    open_server(bench, own_program, family)
    assert bench.send_and_find(bench.packet(0, Protocol.UDP, family, payload=SHORT + b"half")) is None
