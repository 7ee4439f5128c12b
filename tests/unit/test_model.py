# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The model says what the rules of the reference program say, in numbers written out by hand."""

from __future__ import annotations

import errno
import socket
import struct
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.abi import Result, pack_command, unpack_context
from harness.model.decision import HashUnknownError
from harness.model.expect import expect, expect_without_hash, reciprocal_scale
from harness.model.fate import Fate, fate
from harness.model.layout import Bind, Family, InnerMap, Layout, Protocol, Shape
from harness.model.malformed import Checksum, Malformation
from harness.model.outcome import Outcome, ReplyKind
from harness.model.packets import Packet
from harness.model.uapi import ETH_P_IP

UDP4 = Shape(protocol=Protocol.UDP, family=Family.IPV4, bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)
TCP6 = Shape(protocol=Protocol.TCP, family=Family.IPV6, bind=Bind.SPECIFIC, inner_map=InnerMap.SOCKHASH)


def layout(shape: Shape = UDP4, **changes: object) -> Layout:
    values: dict[str, object] = {
        "shape": shape,
        "members": (0, 1, 2, 3),
        "slots": MappingProxyType({0: 0, 1: 1, 2: 2, 3: 3}),
        **changes,
    }
    return Layout(**values)  # type: ignore[arg-type]


def test_a_record_that_holds_more_than_two_ipv4_addresses_is_refused() -> None:
    addresses = bytes([192, 0, 2, 9, 192, 0, 2, 1])
    rest = (b"\0\1", b"\0\2", socket.htons(ETH_P_IP), 1, 16, 7)
    context, hash_ = unpack_context(struct.pack("=I32s2s2sHB1xII", 17, addresses, *rest))
    assert (context.source, context.destination, hash_) == ("192.0.2.9", "192.0.2.1", 7)
    with pytest.raises(ValueError, match="behind the two addresses"):
        unpack_context(struct.pack("=I32s2s2sHB1xII", 17, addresses + b"\1", *rest))


def packet(shape: Shape = UDP4, payload: bytes = b"", **changes: object) -> Packet:
    values: dict[str, object] = {
        "protocol": shape.protocol, "family": shape.family, "source_port": 40000, "payload": payload, **changes,
    }  # fmt: skip
    return Packet(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(("length", "shown"), [(15, ""), (16, ""), (17, " …")])
def test_payload_is_shown_as_far_as_sixteen_bytes(length: int, shown: str) -> None:
    text = f"{length} bytes of payload: {bytes(range(length))[:16].hex(' ')}{shown}"
    assert str(packet(payload=bytes(range(length)))) == f"UDP 192.0.2.9:40000 > 192.0.2.1:7000, {text}"


@pytest.mark.parametrize(
    ("malformation", "payload", "expected"),
    [
        (Malformation(vlans=(0x6000,)), 8, Fate.USUAL),  # tag 0 with a priority: no VLAN's
        (Malformation(vlans=(0x6000, 0x6001)), 8, Fate.LOST_BEFORE),
        (Malformation(stated_length=7), 8, Fate.LOST_BEFORE),  # a UDP header has 8 bytes
        (Malformation(stated_length=8), 8, Fate.USUAL),
        (Malformation(stated_length=16), 8, Fate.USUAL),
        (Malformation(stated_length=17), 8, Fate.LOST_BEFORE),
        (Malformation(checksum=Checksum.WRONG), 68, Fate.LOST_BEFORE),  # CHECKSUM_BREAK: 76 with the header
        (Malformation(checksum=Checksum.WRONG), 69, Fate.LOST_AFTER),
    ],
)
def test_fate_turns_at_the_kernel_s_limits(malformation: Malformation, payload: int, expected: Fate) -> None:
    assert fate(packet(payload=bytes(payload), malformation=malformation)) is expected


def test_group_is_the_usual_one_unless_it_is_said() -> None:
    """A group of 32 places with the reference program and an empty map, received on CPU 0."""
    usual = Layout(shape=UDP4, members=())
    assert (usual.program, usual.size, usual.cpu, dict(usual.slots), dict(usual.foreign)) == (
        "reference",
        32,
        0,
        {},
        {},
    )
    assert (usual.state, usual.table, usual.index_override, usual.inner_present) == (0, (), -1, True)
    assert not usual.fast_open
    assert not usual.syncookies


def test_payload_names_the_slot() -> None:
    expected = expect(layout(slots=MappingProxyType({2: 1})), packet(payload=pack_command(2)))
    assert expected.received == {1: (pack_command(2),)}
    assert expected.results == {Result.PASS: 1}
    assert expected.select_errors == (0,)
    assert expected.replies == ()


def test_record_has_what_the_program_sees() -> None:
    context = expect(layout(), packet(payload=pack_command(0))).context
    assert context is not None
    assert (context.ip_protocol, context.eth_protocol, context.bind_inany) == (17, 0x0800, True)
    assert (context.source, context.destination) == ("192.0.2.9", "192.0.2.1")
    assert (context.source_port, context.destination_port) == (40000, 7000)
    assert context.length == 8 + 8


@pytest.mark.parametrize(
    ("changes", "payload", "result", "errors"),
    [
        ({"inner_present": False}, pack_command(0, pass_on_failure=True), Result.DROP_ERR_INNER_MAP, ()),
        ({}, b"1234567", Result.DROP_ERR_SKB_DATA, ()),
        ({}, pack_command(4), Result.DROP_ERR_SK_SELECT_REUSEPORT, (-errno.ENOENT,)),
        ({"index_override": 9}, pack_command(0), Result.DROP_ERR_SK_SELECT_REUSEPORT, (-errno.ENOENT,)),
    ],
)
def test_dropped_datagram_is_answered_by_icmp(
    changes: dict[str, Any], payload: bytes, result: Result, errors: tuple[int, ...]
) -> None:
    expected = expect(layout(**changes), packet(payload=payload))
    assert (expected.received, expected.results, expected.select_errors) == ({}, {result: 1}, errors)
    assert [reply.kind for reply in expected.replies] == [ReplyKind.PORT_UNREACHABLE]


def test_dropped_syn_is_reset_with_its_data_acknowledged() -> None:
    (reset,) = expect(layout(TCP6), packet(TCP6, pack_command(9))).replies
    assert (reset.kind, reset.ack) == (ReplyKind.RESET, 1000 + 1 + 8)


def test_override_is_spent_only_where_it_is_read() -> None:
    spent = expect(layout(index_override=3), packet(payload=pack_command(0)))
    kept = expect(layout(index_override=3), packet(payload=b""))
    assert (list(spent.received), spent.override) == ([3], -1)
    assert (kept.results, kept.override) == ({Result.DROP_ERR_SKB_DATA: 1}, 3)


def test_syn_data_counts_only_with_fast_open() -> None:
    for fast_open, held, acknowledged in ((False, b"tail", 1001), (True, pack_command(1) + b"tail", 1009)):
        expected = expect(layout(TCP6, fast_open=fast_open), packet(TCP6, pack_command(1), ack_payload=b"tail"))
        assert expected.received == {1: (held,)}
        (reply,) = expected.replies
        assert (reply.kind, reply.ack) == (ReplyKind.SYN_ACK, acknowledged)


def test_syncookie_runs_the_program_twice() -> None:
    expected = expect(layout(TCP6, syncookies=True), packet(TCP6, pack_command(1), ack_payload=pack_command(2)))
    assert expected.results == {Result.PASS: 2}
    assert list(expected.received) == [2]
    assert expected.context is not None
    assert expected.context.length == 20 + 8


def test_hash_falls_on_members_in_the_order_of_the_group() -> None:
    failing = packet(payload=pack_command(9, pass_on_failure=True))
    order = layout(members=(3, 0, 1))
    # thirds of the 32-bit range
    for hash_, member in ((0, 3), (0x55555555, 3), (0x55555556, 0), (0xFFFFFFFF, 1)):
        assert list(expect(order, failing, hash_=hash_).received) == [member]


def test_hash_that_is_not_known_is_an_error_not_a_guess() -> None:
    with pytest.raises(HashUnknownError, match="not known"):
        expect(layout(program=None), packet())


def test_only_what_the_hash_decides_waits_for_the_hash() -> None:
    named, failing = packet(payload=pack_command(2)), packet(payload=pack_command(9, pass_on_failure=True))
    assert expect_without_hash(layout(), named) == expect(layout(), named, hash_=1 << 31)
    assert expect_without_hash(layout(), failing) is None


@pytest.mark.parametrize(
    ("hash_", "size", "member"),
    [
        # 0x40000000 is a quarter of the range: a quarter of 32 is 8, and one less falls into the place before
        (0x40000000, 32, 8),
        (0x3FFFFFFF, 32, 7),
        # 0xFFFFFFFF * 3 = 0x2FFFFFFFD, whose high half is 2
        (0xFFFFFFFF, 3, 2),
        # 0x80000000 * 5 = 0x280000000
        (0x80000000, 5, 2),
        (0xFFFFFFFF, 1, 0),
    ],
)
def test_scale_in_numbers(hash_: int, size: int, member: int) -> None:
    assert reciprocal_scale(hash_, size) == member


@given(hash_=st.integers(0, 2**32 - 1), size=st.integers(1, 70000))
def test_scale_is_even_and_in_range(hash_: int, size: int) -> None:
    member = reciprocal_scale(hash_, size)
    assert 0 <= member < size
    # include/linux/kernel.h: (u32)(((u64) val * ep_ro) >> 32), that is floor(hash / 2^32 * size)
    assert member == hash_ * size // 2**32


def test_unattached_group_leaves_no_record() -> None:
    outcome = expect(layout(program=None), packet(payload=b"x"), hash_=0)
    assert outcome == Outcome(received={0: (b"x",)})
