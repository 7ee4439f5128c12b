# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Malformed frames are malformed as they say, everything else in them is right, and messages name what is unusual."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q, Ether

from harness.model.fate import Fate, fate
from harness.model.layout import Family, Protocol
from harness.model.malformed import Checksum, Malformation
from harness.model.packets import Packet
from harness.wire import frames
from harness.wire.checksum import fold, internet_checksum, transport_checksum, word_sum

PADDING = bytes([0, 0, 1, 4, 0, 0, 0, 0])  # an extension header of 8 bytes: PadN


def packet(malformation: Malformation, **changes: object) -> Packet:
    values: dict[str, object] = {
        "protocol": Protocol.UDP,
        "family": Family.IPV4,
        "source_port": 20000,
        "payload": b"12345678",
        "malformation": malformation,
        **changes,
    }
    return Packet(**values)  # type: ignore[arg-type]


def frame(malformation: Malformation, **changes: object) -> bytes:
    (made,) = frames.opening(packet(malformation, **changes))
    return made


def test_checksum_is_that_of_the_rfc() -> None:
    # RFC 1071, section 3: the sum of these eight bytes is 2ddf0, folded ddf2
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert word_sum(data) == 0x2DDF0
    assert fold(0x2DDF0) == 0xDDF2
    assert internet_checksum(data) == 0x220D


def test_odd_byte_is_padded_behind() -> None:
    assert internet_checksum(b"\x12\x34\x56") == 0xFFFF - 0x1234 - 0x5600


@given(st.sampled_from(Family), st.sampled_from(Protocol), st.binary(max_size=40))
def test_sum_over_a_segment_with_its_checksum_is_all_ones(family: Family, protocol: Protocol, payload: bytes) -> None:
    sent = packet(Malformation(), family=family, protocol=protocol, payload=payload)
    (made,) = frames.opening(sent)
    at = 14 + (20 if family is Family.IPV4 else 40)
    addresses = made[26:34] if family is Family.IPV4 else made[22:54]
    half = len(addresses) // 2
    # verifying: the checksum over everything, itself included, is zero, here sent as all ones
    assert transport_checksum(protocol.number, addresses[:half], addresses[half:], made[at:]) == 0xFFFF


@pytest.mark.parametrize("tags", [(0,), (5, 7)])
def test_tags_go_from_the_outside_in(tags: tuple[int, ...]) -> None:
    parsed = Ether(frame(Malformation(vlans=tags)))
    for tag in tags:
        parsed = parsed[Dot1Q]
        assert parsed.vlan == tag
        parsed = parsed.payload
    assert bytes(parsed[UDP].payload) == b"12345678"


def test_options_and_extension_headers_keep_the_datagram() -> None:
    v4 = Ether(frame(Malformation(ipv4_options=b"\x01" * 8, hop_limit=3)))[IP]
    assert (v4.ihl, v4.ttl, v4.len, bytes(v4[UDP].payload)) == (7, 3, 20 + 8 + 16, b"12345678")
    both = Malformation(ipv6_extensions=((0, PADDING), (60, PADDING)))
    v6 = Ether(frame(both, family=Family.IPV6))[IPv6]
    assert (v6.nh, v6[IPv6ExtHdrHopByHop].nh, v6[IPv6ExtHdrDestOpt].nh, v6.plen) == (0, 60, 17, 8 + 8 + 16)


@pytest.mark.parametrize(
    ("malformation", "changes", "words"),
    [
        (Malformation(checksum=Checksum.WRONG), {"fragments": (8,)}, "fragmented"),
        (Malformation(stated_length=12), {"fragments": (8,)}, "fragmented"),
        (Malformation(stated_length=12), {"protocol": Protocol.TCP}, "only UDP"),
        (Malformation(checksum=Checksum.ABSENT), {"protocol": Protocol.TCP}, "only UDP"),
        (Malformation(ipv4_options=b"\x01" * 3), {}, "multiple of 4"),
        (Malformation(ipv4_options=b"\x01" * 4), {"family": Family.IPV6}, "IPv6 packet"),
        (Malformation(ipv6_extensions=((60, PADDING),)), {}, "IPv4 packet"),
    ],
)
def test_malformation_that_the_frames_cannot_have_is_refused(
    malformation: Malformation, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        frame(malformation, **changes)


def test_message_names_only_what_is_unusual() -> None:
    malformation = Malformation(checksum=Checksum.WRONG, stated_length=12, vlans=(0, 5), trailer=b"\xee" * 3)
    assert str(packet(malformation)) == (
        "UDP 192.0.2.9:20000 > 192.0.2.1:7000, 8 bytes of payload: 31 32 33 34 35 36 37 38, "
        "with a wrong checksum, a UDP length of 12, VLAN tags 0+5, 3 bytes behind the IP packet"
    )
    assert "with" not in str(packet(Malformation()))
    options = Malformation(checksum=Checksum.ABSENT, ipv4_options=b"\x01\x01", hop_limit=1, order=(1, 0))
    assert str(options) == "no checksum, IPv4 options 01 01, a hop limit of 1, fragments in the order 1+0"
    assert str(Malformation(ipv6_extensions=((0, PADDING), (60, PADDING)))) == "IPv6 extension headers 0+60"


def test_long_payload_is_shown_in_part() -> None:
    assert str(packet(Malformation(), payload=bytes(17))).endswith("17 bytes of payload: " + "00 " * 16 + "…")


@pytest.mark.parametrize(
    ("malformation", "family", "expected"),
    [
        (Malformation(), Family.IPV4, Fate.USUAL),
        (Malformation(vlans=(0x2000,)), Family.IPV4, Fate.USUAL),
        (Malformation(vlans=(0, 5)), Family.IPV4, Fate.LOST_BEFORE),
        (Malformation(stated_length=7), Family.IPV4, Fate.LOST_BEFORE),
        (Malformation(stated_length=17), Family.IPV4, Fate.LOST_BEFORE),
        (Malformation(stated_length=0), Family.IPV4, Fate.LOST_BEFORE),
        (Malformation(stated_length=0), Family.IPV6, Fate.USUAL),
        (Malformation(checksum=Checksum.WRONG), Family.IPV4, Fate.LOST_BEFORE),
        (Malformation(checksum=Checksum.ABSENT), Family.IPV4, Fate.USUAL),
        (Malformation(checksum=Checksum.ABSENT), Family.IPV6, Fate.LOST_AFTER),
    ],
)
def test_malformation_decides_the_fate_of_a_packet(malformation: Malformation, family: Family, expected: Fate) -> None:
    assert fate(packet(malformation, family=family)) is expected


@pytest.mark.parametrize(("length", "expected"), [(76, Fate.LOST_BEFORE), (77, Fate.LOST_AFTER)])
def test_long_packet_is_verified_only_when_it_is_read(length: int, expected: Fate) -> None:
    assert fate(packet(Malformation(checksum=Checksum.WRONG), payload=bytes(length - 8))) is expected
