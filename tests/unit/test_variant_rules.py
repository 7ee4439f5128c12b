# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Rules say what programs do, in numbers written out by hand; cases/ holds them against the kernel."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from types import MappingProxyType

import pytest

from harness.model.abi import Result, pack_indices
from harness.model.decision import Decision, HashUnknownError, View
from harness.model.layout import Bind, Family, InnerMap, Layout, Protocol, Shape
from harness.model.packets import Packet
from harness.model.rules import RULES
from harness.model.variants import VARIANTS

BPF = Path(__file__).parents[2] / "bpf"
UDP4 = Shape(protocol=Protocol.UDP, family=Family.IPV4, bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)
SLOTS = MappingProxyType({index: index for index in range(4) if index != 3})


def decide(
    name: str, payload: bytes = b"", *, hash_: int | None = 0, port: int = 40000, **standing: object
) -> Decision:
    values: dict[str, object] = {"shape": UDP4, "members": (0, 1, 2), "slots": SLOTS, "size": 4, **standing}
    packet = Packet(protocol=Protocol.UDP, family=Family.IPV4, source_port=port, payload=payload)
    layout = Layout(**values)  # type: ignore[arg-type]
    return RULES[name](View(packet=packet, payload=payload, hash=hash_), layout)


def selected(member: int) -> tuple[Result, int | None, int]:
    return Result.PASS, member, 0


def summary(decision: Decision) -> tuple[Result | None, int | None, int]:
    return decision.result, decision.member, decision.error


@pytest.mark.parametrize(
    ("name", "standing", "member"),
    [
        ("by_source_port", {"port": 40002}, 2),
        ("by_hash", {"hash_": 4 * 1000 + 1}, 1),
        ("by_cpu", {"cpu": 6}, 2),
        ("round_robin", {"state": 9}, 1),
        ("round_robin", {"state": (1 << 32) + 2}, 2),
        ("active_backup", {}, 0),
        ("active_backup", {"slots": {1: 1}}, 1),
        ("active_active", {"port": 40001}, 1),
        ("active_active", {"port": 40001, "slots": {0: 0}}, 0),
    ],
)
def test_key_names_the_slot(name: str, standing: dict[str, object], member: int) -> None:
    assert summary(decide(name, **standing)) == selected(member)  # type: ignore[arg-type]


def test_state_is_kept_from_packet_to_packet() -> None:
    assert decide("round_robin", state=9).state == 10
    assert decide("round_robin", state=(1 << 64) - 1).state == 0
    # Marsaglia, "Xorshift RNGs": the step of xorshift64 from 1
    assert decide("random", state=1).state == 0x40822041


@pytest.mark.parametrize(
    ("first", "second", "result", "member", "error"),
    [
        (1, 2, Result.PASS, 2, 0),
        (1, 3, Result.PASS, 1, -errno.ENOENT),
        (3, 2, Result.PASS, 2, 0),
        (3, 9, Result.PASS_ERR_SK_SELECT_REUSEPORT, None, -errno.ENOENT),
    ],
)
def test_last_success_wins(first: int, second: int, result: Result, member: int | None, error: int) -> None:
    assert summary(decide("select_twice", pack_indices(first, second))) == (result, member, error)


def test_slot_with_a_foreign_socket_answers_its_error() -> None:
    assert decide("by_source_port", port=40003, foreign={3: -errno.EPROTOTYPE}).error == -errno.EPROTOTYPE


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_program_has_a_file_unless_it_is_classic(name: str) -> None:
    variant = VARIANTS[name]
    if variant.classic:
        assert variant.file is None
    else:
        assert variant.file is not None
        assert (BPF / variant.file).is_file()


@pytest.mark.parametrize("name", ["always_drop", "verdict_two", "verdict_minus_one", "select_then_drop"])
def test_programs_that_drop_never_pass(name: str) -> None:
    assert not decide(name, pack_indices(1, 0)).verdict_passes


@pytest.mark.parametrize(
    ("payload", "member"),
    [
        (bytes([0x40, 2, 0, 0, 0, 0, 0, 0, 0]), 2),
        (bytes([0xE0, 0, 0, 0, 1, 8, 1, 0, 0, 0, 0, 0, 0, 0]), 1),
    ],
    ids=["short-header", "handshake"],
)
def test_server_chose_the_connection_id(payload: bytes, member: int) -> None:
    assert summary(decide("by_quic_index", payload)) == selected(member)


@pytest.mark.parametrize("kind", [0xC0, 0xD0], ids=["initial", "0-rtt"])
def test_client_chose_the_connection_id(kind: int) -> None:
    decision = decide("by_quic_index", bytes([kind, 0, 0, 0, 1, 8, 1, 0, 0, 0, 0, 0, 0, 0]))
    assert (decision.result, decision.index, decision.member) == (Result.PASS, None, None)


@pytest.mark.parametrize("payload", [b"", bytes(20), b"\x40" * 8, b"\xe0\0\0\0\1\x08\1\2\3"])
def test_no_connection_id_can_be_read(payload: bytes) -> None:
    assert decide("by_quic_index", payload).result is Result.DROP_ERR_SKB_DATA


# RFC 9001, appendix A: packets that carry the client's or the server's connection ID.
CLIENT_INITIAL = "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11"  # A.2: destination 8394c8f03e515708
SERVER_INITIAL = "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a"  # A.3: destination of no length
RETRY = "ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f"  # A.4: destination of no length
SHORT = "4cfe4189655e5cd55c41f69080575d7999c25a5bfb"  # A.5: destination of no length, so 8 bytes of something else
# The server's connection ID of A.3 and A.4 as the client would send it (RFC 9000, section 17.2.4 and 17.3.1).
HANDSHAKE_TO_SERVER = "e00000000108f067a5502a4262b5"
SHORT_TO_SERVER = "4cf067a5502a4262b5"
SERVER_CID = bytes.fromhex("f067a5502a4262b5")


@pytest.mark.parametrize("packet", [HANDSHAKE_TO_SERVER, SHORT_TO_SERVER], ids=["handshake", "short-header"])
def test_servers_connection_id_of_the_rfc_names_the_socket(packet: str) -> None:
    key = struct.unpack("=Q", SERVER_CID)[0]
    held = {key: 2}
    assert summary(decide("by_quic_connection", bytes.fromhex(packet), slots=held)) == selected(2)
    # 0xf0 = 240 is the first byte of the same ID
    assert summary(decide("by_quic_index", bytes.fromhex(packet), slots={240: 1})) == selected(1)


@pytest.mark.parametrize(
    "packet", [CLIENT_INITIAL, SERVER_INITIAL, RETRY], ids=["client-initial", "server-initial", "retry"]
)
def test_other_long_headers_of_the_rfc_are_left_to_the_hash(packet: str) -> None:
    decision = decide("by_quic_connection", bytes.fromhex(packet))
    assert (decision.result, decision.index, decision.member) == (Result.PASS, None, None)


def test_short_header_has_its_connection_id_at_the_first_byte() -> None:
    decision = decide("by_quic_connection", bytes.fromhex(SHORT))
    assert decision.index == struct.unpack("=Q", bytes.fromhex("fe4189655e5cd55c"))[0]
    assert decision.result is Result.PASS_ERR_SK_SELECT_REUSEPORT


@pytest.mark.parametrize(
    ("state", "following"),
    [
        # Marsaglia, "Xorshift RNGs" (2003), a = 13, b = 7, c = 17: the sequence from his example's seed, whose
        # first three numbers are published
        (88172645463325252, 8748534153485358512),
        (8748534153485358512, 3040900993826735515),
        (3040900993826735515, 3453997556048239312),
        # by hand from 2: 2 ^ 2 << 13 = 0x4002; ^ 0x4002 >> 7 = 0x4082; ^ 0x4082 << 17 = 0x81044082
        (2, 0x81044082),
    ],
)
def test_generator_is_xorshift64(state: int, following: int) -> None:
    decision = decide("random", state=state)
    assert decision.state == following
    assert decision.index == (following >> 32) % 4


def test_place_beyond_the_group_is_left_to_the_hash() -> None:
    assert decide("classic_payload", b"\x02", members=(5, 1, 4)).member == 4
    assert decide("classic_payload", b"\x03", members=(5, 1, 4)).member is None
    assert decide("classic_payload", b"", members=(5, 1, 4)).member == 5


def test_hash_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(HashUnknownError, match="not known"):
        decide("by_hash", hash_=None)
