# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Frames as a kernel would answer, built by scapy, are read for what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6ND_NS, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Ether

from harness.group.delivery import without_repeated_syn_acks
from harness.model.outcome import Reply, ReplyKind
from harness.wire.replies import Echo, parse

if TYPE_CHECKING:
    from scapy.packet import Packet as ScapyPacket

LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:09")
V4 = IP(src="192.0.2.1", dst="192.0.2.9")
V6 = IPv6(src="2001:db8::1", dst="2001:db8::9")
SENT4 = IP(src="192.0.2.9", dst="192.0.2.1") / UDP(sport=40000, dport=7000) / b"12345678"
SENT6 = IPv6(src="2001:db8::9", dst="2001:db8::1") / UDP(sport=40000, dport=7000) / b"12345678"
SENT6_FRAGMENT = (
    IPv6(src="2001:db8::9", dst="2001:db8::1", nh=44) / IPv6ExtHdrFragment(nh=17) / UDP(sport=40000, dport=7000)
)


@pytest.mark.parametrize(
    ("layers", "reply"),
    [
        (
            V4 / TCP(sport=7000, dport=40000, flags="SA", seq=5, ack=1001),
            Reply(kind=ReplyKind.SYN_ACK, address="192.0.2.9", port=40000, ack=1001),
        ),
        (
            V6 / TCP(sport=7000, dport=40000, flags="RA", ack=1009),
            Reply(kind=ReplyKind.RESET, address="2001:db8::9", port=40000, ack=1009),
        ),
        (
            V4 / TCP(sport=7000, dport=40000, flags="R", seq=77),
            Reply(kind=ReplyKind.RESET, address="192.0.2.9", port=40000, ack=None),
        ),
        (
            V4 / ICMP(type=3, code=3) / SENT4,
            Reply(kind=ReplyKind.PORT_UNREACHABLE, address="192.0.2.9", port=40000),
        ),
        (
            V6 / ICMPv6DestUnreach(code=4) / SENT6,
            Reply(kind=ReplyKind.PORT_UNREACHABLE, address="2001:db8::9", port=40000),
        ),
        (
            V6 / ICMPv6DestUnreach(code=4) / SENT6_FRAGMENT,
            Reply(kind=ReplyKind.PORT_UNREACHABLE, address="2001:db8::9", port=40000),
        ),
    ],
    ids=["syn-ack", "reset-with-ack", "reset", "icmp", "icmpv6", "icmpv6-of-a-fragment"],
)
def test_reply_is_read(layers: ScapyPacket, reply: Reply) -> None:
    assert parse(bytes(LINK / layers)) == reply


def test_kernels_sequence_is_kept() -> None:
    reply = parse(bytes(LINK / V4 / TCP(sport=7000, dport=40000, flags="SA", seq=0xDEADBEEF, ack=1)))
    assert isinstance(reply, Reply)
    assert reply.sequence == 0xDEADBEEF


def test_ping_that_came_back_is_told_from_replies() -> None:
    assert parse(bytes(LINK / V4 / ICMP(type=0, seq=513))) == Echo(513)


@pytest.mark.parametrize(
    "layers",
    [
        LINK / V4 / TCP(sport=7000, dport=40000, flags="A"),
        Ether(dst="33:33:00:00:00:01") / V6 / ICMPv6ND_NS(),
        Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(),
    ],
    ids=["pure-ack", "multicast", "broadcast"],
)
def test_chatter_is_no_reply(layers: ScapyPacket) -> None:
    assert parse(bytes(layers)) is None


@pytest.mark.parametrize(
    ("layers", "detail"),
    [
        (LINK / V4 / TCP(flags="PA") / b"data", "TCP flags"),
        (LINK / V4 / ICMP(type=3, code=1) / SENT4, "ICMP type 3 code 1"),
        (LINK / V4 / UDP() / b"echoed", "protocol 17"),
        (LINK / ARP(), "ethertype 0x0806"),
    ],
    ids=["data", "host-unreachable", "datagram", "arp"],
)
def test_anything_else_is_kept_for_the_comparison(layers: ScapyPacket, detail: str) -> None:
    reply = parse(bytes(layers))
    assert isinstance(reply, Reply)
    assert reply.kind is ReplyKind.OTHER
    assert detail in reply.detail


def test_only_the_same_syn_ack_is_a_repeated_one() -> None:
    """A SYN-ACK of another request has another sequence number, and nothing else is sent again by a timer."""

    def reply(kind: ReplyKind, sequence: int) -> Reply:
        return Reply(kind=kind, address="192.0.2.9", port=20000, ack=1001, sequence=sequence)

    first, other, reset = reply(ReplyKind.SYN_ACK, 1), reply(ReplyKind.SYN_ACK, 2), reply(ReplyKind.RESET, 1)
    kept = without_repeated_syn_acks([first, reset, first, other, reset])
    assert [(one.kind, one.sequence) for one in kept] == [
        (ReplyKind.SYN_ACK, 1),
        (ReplyKind.RESET, 1),
        (ReplyKind.SYN_ACK, 2),
        (ReplyKind.RESET, 1),
    ]
