# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Cases for nghttp2's bpf/reuseport_kern.c, whose maps the server fills; docs/in-the-field.md tells how to run them.

What its comments and messages say is checked, but for connection IDs of the server's own: those are encrypted.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family

if TYPE_CHECKING:
    from harness.cases import Bench, Family, OwnProgram

INITIAL, HANDSHAKE = b"\xc0", b"\xe0"
VERSION_1 = b"\0\0\0\1"

WORKERS = 4

pytestmark = each_family


@pytest.fixture
def workers(bench: Bench, own_program: OwnProgram, family: Family) -> list[int]:
    """Return the sockets of the workers, and tell the program how many there are."""
    opened = bench.group(WORKERS, family=family)
    bench.attach(opened[0], own_program)
    for slot, number in enumerate(opened):
        own_program.put(slot, bench[number].fileno())
    own_program.maps["sk_info"].update(struct.pack("=I", 0), struct.pack("=Q", WORKERS))
    return opened


def long_header(kind: bytes, connection_id: bytes, size: int = 1200) -> bytes:
    """Return a packet of QUIC with a long header, padded to that many bytes."""
    return (kind + VERSION_1 + bytes([len(connection_id)]) + connection_id).ljust(size, b"\0")


def test_new_clients_are_shared_out(bench: Bench, workers: list[int], family: Family) -> None:
    """Initial packets with IDs that the clients drew reach every worker."""
    packets = [bench.packet(family=family, payload=long_header(INITIAL, os.urandom(18))) for _ in range(80)]
    assert set(bench.send_and_find_each(packets)) == set(workers)


def test_a_new_client_keeps_its_worker(bench: Bench, workers: list[int], family: Family) -> None:
    """An Initial packet that is sent again reaches the worker that has the first."""
    packets = [bench.packet(family=family, payload=long_header(INITIAL, os.urandom(18))) for _ in range(20)]
    assert bench.send_and_find_each(packets) == bench.send_and_find_each(packets)
    assert workers


def test_a_handshake_with_a_foreign_id_is_dropped(bench: Bench, workers: list[int], family: Family) -> None:
    """After the Initial packet a client uses the server's ID, which has 17 bytes: others are dropped."""
    packets = [bench.packet(family=family, payload=long_header(HANDSHAKE, os.urandom(8))) for _ in range(20)]
    assert bench.send_and_find_each(packets) == [None] * 20
    assert workers


def test_what_cannot_be_quic_is_dropped(bench: Bench, workers: list[int], family: Family) -> None:
    """Packets under 22 bytes, from ports below 1024, and with IDs too long or too short are dropped."""
    wrong = [
        bench.packet(family=family, payload=long_header(INITIAL, bytes(8), size=21)),
        bench.packet(family=family, payload=long_header(INITIAL, bytes(18)), source_port=53),
        bench.packet(family=family, payload=long_header(INITIAL, bytes(21))),
        bench.packet(family=family, payload=long_header(INITIAL, bytes(7))),
    ]
    assert bench.send_and_find_each(wrong) == [None] * len(wrong)
    assert workers
