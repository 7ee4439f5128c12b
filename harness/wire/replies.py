# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Parse the frames that came back on the wire. Pure; not with scapy, which takes 10 ms a frame under emulation."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from harness.model.addresses import spelled
from harness.model.layout import Family, Protocol
from harness.model.outcome import Reply, ReplyKind
from harness.model.uapi import (
    ICMP_DEST_UNREACH,
    ICMP_ECHOREPLY,
    ICMP_PORT_UNREACH,
    ICMPV6_DEST_UNREACH,
    ICMPV6_PORT_UNREACH,
    TCP_ACK,
    TCP_RST,
    TCP_SYN,
)
from harness.wire.headers import ETHERNET_HEADER

_IPV4_UNREACHABLE_PORT = (ICMP_DEST_UNREACH, ICMP_PORT_UNREACH)
_IPV6_UNREACHABLE_PORT = (ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH)
_EXTENSION_HEADERS = {socket.IPPROTO_HOPOPTS, socket.IPPROTO_ROUTING, socket.IPPROTO_DSTOPTS, socket.IPPROTO_FRAGMENT}


@dataclass(frozen=True)
class Echo:
    """The answer to a ping, by its sequence number."""

    sequence: int


def parse(frame: bytes) -> Reply | Echo | None:
    """Return the reply in a frame; None for what is no reply: the stack's multicast packets and pure ACKs."""
    if frame[0] & 1:
        return None
    (eth_protocol,) = struct.unpack_from("!H", frame, 12)
    packet = frame[ETHERNET_HEADER:]
    if eth_protocol == Family.IPV4.eth_protocol:
        header, protocol, destination = (packet[0] & 15) * 4, packet[9], packet[16:20]
    elif eth_protocol == Family.IPV6.eth_protocol:
        header, protocol, destination = 40, packet[6], packet[24:40]
    else:
        return Reply(kind=ReplyKind.OTHER, address="", port=0, detail=f"ethertype {eth_protocol:#06x} ")
    address = spelled(destination)
    body = packet[header:]
    if protocol == Protocol.TCP.number:
        return _segment(address, body)
    if protocol == socket.IPPROTO_ICMP and body[0] == ICMP_ECHOREPLY:
        return Echo(struct.unpack_from("!H", body, 6)[0])
    unreachable = _IPV4_UNREACHABLE_PORT if protocol == socket.IPPROTO_ICMP else _IPV6_UNREACHABLE_PORT
    if protocol in {socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6}:
        if tuple(body[:2]) == unreachable:
            return Reply(kind=ReplyKind.PORT_UNREACHABLE, address=address, port=_quoted_source_port(body[8:]))
        return Reply(kind=ReplyKind.OTHER, address=address, port=0, detail=f"ICMP type {body[0]} code {body[1]} ")
    return Reply(kind=ReplyKind.OTHER, address=address, port=0, detail=f"protocol {protocol} ")


def _segment(address: str, segment: bytes) -> Reply | None:
    _, port, sequence, ack, offset, flags = struct.unpack_from("!HHIIBB", segment)
    options = segment[20 : (offset >> 4) * 4]
    acknowledges = ack if flags & TCP_ACK else None
    if flags & TCP_RST:
        return Reply(kind=ReplyKind.RESET, address=address, port=port, ack=acknowledges)
    if flags & TCP_SYN:
        return Reply(
            kind=ReplyKind.SYN_ACK, address=address, port=port, ack=acknowledges, sequence=sequence, options=options
        )
    if flags & TCP_ACK and len(segment) == (offset >> 4) * 4:
        return None
    return Reply(kind=ReplyKind.OTHER, address=address, port=port, ack=acknowledges, detail=f"TCP flags {flags:#04x} ")


def _quoted_source_port(quoted: bytes) -> int:
    """Return the source port of the packet that an ICMP error quotes, behind any options and extension headers."""
    if quoted[0] >> 4 == 4:
        at = (quoted[0] & 15) * 4
    else:
        at, following = 40, quoted[6]
        while following in _EXTENSION_HEADERS:
            length = 8 if following == socket.IPPROTO_FRAGMENT else (quoted[at + 1] + 1) * 8
            following, at = quoted[at], at + length
    (port,) = struct.unpack_from("!H", quoted, at)
    return int(port)
