# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Cases for nghttp2's bpf/reuseport_kern.c, whose maps the server fills; docs/in-the-field.md tells how to run them.

What its comments and messages say is checked. Connection IDs of the server's own are encrypted with AES; the key, a
worker's ID and what it is encrypted to are those of the standard's example.
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

ROUND_KEYS = bytes.fromhex("""
2b7e151628aed2a6abf7158809cf4f3c a0fafe1788542cb123a339392a6c7605 f2c295f27a96b9435935807a7359f67f
3d80477d4716fe3e1e237e446d7a883b ef44a541a8525b7fb671253bdb0bad00 d4d1c6f87c839d87caf2b8bc11f915bc
6d88a37a110b3efddbf98641ca0093fd 4e54f70e5f5fc9f384a64fb24ea6dc4f ead27321b58dbad2312bf5607f8d292f
ac7766f319fadc2128d12941575c006e d014f9a8c9ee2589e13f0cc8b6630ca6
""")
"""FIPS 197, A.1: the expanded key."""
WORKER_ID = bytes.fromhex("3243f6a8885a308d")
"""FIPS 197, B: the first half of the input."""
ENCRYPTED = bytes.fromhex("3925841d02dc09fbdc118597196a0b32")
"""FIPS 197, B: the output, in which the worker's ID and eight more bytes are."""

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


def test_a_connection_reaches_its_worker_from_anywhere(
    bench: Bench, own_program: OwnProgram, workers: list[int], family: Family
) -> None:
    """A client that uses the server's ID reaches the worker that the ID names, wherever it sends from."""
    own_program.maps["aes_key"].update(struct.pack("=I", 0), ROUND_KEYS)
    servers_id = b"\0" + ENCRYPTED
    for slot, number in enumerate(workers):
        own_program.maps["worker_id_map"].update(WORKER_ID, struct.pack("=I", slot))
        for payload in (
            long_header(INITIAL, servers_id),
            long_header(HANDSHAKE, servers_id),
            b"\x40" + servers_id + b"a short header",
        ):
            assert bench.send_and_find_each(bench.packets(10, family=family, payload=payload)) == [number] * 10


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
