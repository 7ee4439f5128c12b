# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Options of TCP headers that are made here are what scapy reads, and those that scapy makes are read here."""

from __future__ import annotations

import pytest

from harness.model.layout import Family, Protocol
from harness.model.packets import Packet
from harness.model.uapi import TCP_ACK
from harness.wire import frames
from harness.wire.options import FAST_OPEN, option_of, segment_with_option, syn_with_option
from harness.wire.scapy_layers import ICMP, IP, TCP, UDP, Ether, ICMPv6PacketTooBig


def packet(family: Family, protocol: Protocol = Protocol.TCP) -> Packet:
    return Packet(protocol=protocol, family=family, source_port=500, payload=b"data")


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("content", [b"", bytes(8), bytes(range(15))], ids=len)
def test_a_syn_has_the_option_its_data_and_a_right_checksum(family: Family, content: bytes) -> None:
    (frame,) = syn_with_option(packet(family), FAST_OPEN, content)
    parsed = Ether(frame)
    assert [value for kind, value in parsed[TCP].options if kind == "TFO"] or not content
    assert bytes(parsed[TCP].payload) == b"data"
    (checksum,) = {parsed[TCP].chksum}
    del parsed[TCP].chksum
    assert Ether(bytes(parsed))[TCP].chksum == checksum
    header = bytes(Ether(frame)[TCP])
    assert option_of(header[20 : header[12] >> 4 << 2], FAST_OPEN) == content


def test_a_segment_carries_the_numbers_that_it_is_given() -> None:
    (frame,) = segment_with_option(packet(Family.IPV4), TCP_ACK, 30, b"keys", sequence=7, acknowledge=1 << 32)
    parsed = Ether(frame)[TCP]
    assert (parsed.seq, parsed.ack, int(parsed.flags)) == (7, 0, TCP_ACK)


def test_an_option_that_is_not_there_is_empty() -> None:
    assert option_of(bytes([1, 1, 2, 4, 5, 0xB4, 0, 34, 2]), FAST_OPEN) == b""
    assert option_of(bytes([2, 4, 5, 0xB4, 34, 4, 8, 9]), FAST_OPEN) == b"\x08\x09"


@pytest.mark.parametrize("family", Family)
def test_packet_too_big_says_the_mtu_and_quotes_the_answer(family: Family) -> None:
    parsed = Ether(frames.too_big(packet(family, Protocol.UDP), 1300))
    if family is Family.IPV4:
        assert (parsed[ICMP].type, parsed[ICMP].code, parsed[ICMP].nexthopmtu) == (3, 4, 1300)
        quoted = IP(bytes(parsed[ICMP].payload))
    else:
        assert parsed[ICMPv6PacketTooBig].mtu == 1300
        quoted = parsed[ICMPv6PacketTooBig].payload
    assert quoted.src == family.server
    assert quoted[UDP].dport == 500 if UDP in quoted else b"\x01\xf4" in bytes(quoted)
