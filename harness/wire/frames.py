# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Turn packets into Ethernet frames, a function for each phase: what opens, completes and ends an exchange."""

from __future__ import annotations

import ipaddress
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.model.addresses import packed
from harness.model.layout import Family, Protocol
from harness.model.packets import SYN_SEQUENCE
from harness.model.uapi import (
    ICMP_DEST_UNREACH,
    ICMP_ECHO,
    ICMP_FRAG_NEEDED,
    ICMP_NET_UNREACH,
    ICMP_PARAMETERPROB,
    ICMP_PORT_UNREACH,
    ICMP_TIME_EXCEEDED,
    ICMPV6_NOROUTE,
    ICMPV6_PORT_UNREACH,
    TCP_ACK,
    TCP_RST,
    TCP_SYN,
)
from harness.wire.checksum import fold, transport_field, word_sum
from harness.wire.forms import fill, form, network_layer
from harness.wire.headers import ETHERNET_HEADER, IP_HEADER, PEER_MAC, SERVER_MAC
from harness.wire.malform import malform, set_checksum
from harness.wire.scapy_layers import (
    ICMP,
    IP,
    TCP,
    UDP,
    Ether,
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    Raw,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.model.outcome import Reply
    from harness.model.packets import Packet

_OPTIONLESS_FLAG = 0x100  # NS, without meaning since RFC 8311: tells a SYN without options from the usual one
_PING_ID = 0x5E17
_FIVE_WORDS = 5 << 12  # the data offset of a TCP header without options


def opening(packet: Packet) -> list[bytes]:
    """Return the frames that a packet begins with: the datagram, or the SYN."""
    return datagram(packet) if packet.protocol is Protocol.UDP else syn(packet)


def completing(packet: Packet, syn_ack: Reply, payload: bytes = b"") -> list[bytes]:
    """Return the ACK that answers a SYN-ACK and completes the handshake; ValueError if the reply acknowledges nothing.

    It carries the payload given, not the packet's.
    """
    if syn_ack.ack is None:
        raise ValueError(f"{syn_ack} acknowledges nothing: a handshake is completed after a SYN-ACK only")
    return ack(packet, sequence=syn_ack.ack, acknowledge=(syn_ack.sequence + 1) & 0xFFFFFFFF, payload=payload)


def datagram(packet: Packet) -> list[bytes]:
    """Return the frames of a UDP packet, one for each fragment, in order."""
    payload = packet.payload
    shared = form(packet.family, Protocol.UDP, packet.destination_port, len(payload), packet.fragments, 0)
    return malform(packet, fill(packet, shared, struct.pack("!H", packet.source_port), payload))


def datagrams(packets: Sequence[Packet], payloads: Sequence[bytes]) -> list[bytes]:
    """Return the one frame of each of many UDP packets, given payloads of one even length.

    The packets differ in their source and their payload only. Raises ValueError if they are fragmented or malformed,
    or if the payloads' length is odd.
    """
    first, length = packets[0], len(payloads[0])
    if first.fragments or any(packet.malformation is not None for packet in packets):
        raise ValueError("a batch has no fragmented and no malformed packets: send them one by one")
    if length % 2:
        raise ValueError(f"payloads of a batch have an even length, not {length} bytes")
    shared = form(first.family, Protocol.UDP, first.destination_port, length, (), 0)
    size, usual = len(shared.transport), word_sum(packed(first.family.peer))
    words, header = struct.Struct(f"!{length // 2}H"), struct.Struct("!HHHH")
    begins: dict[str, tuple[bytes, int]] = {}  # by source: the frame before its UDP header, and what it adds to the sum
    made = []
    for packet, payload in zip(packets, payloads, strict=True):
        port, source = packet.source_port, packet.source
        if source not in begins:
            (frame,) = fill(packet, shared, b"", payload)
            beyond = shared.pseudo_header + word_sum(packed(source)) - usual + first.destination_port + size
            begins[source] = frame[: len(frame) - size], beyond
        begin, beyond = begins[source]
        checksum = transport_field(beyond + port + sum(words.unpack(payload)))
        made.append(begin + header.pack(port, first.destination_port, size, checksum) + payload)
    return made


def syn(packet: Packet) -> list[bytes]:
    """Return the SYN that opens a TCP connection, with the packet's payload; its sequence is `SYN_SEQUENCE`."""
    shared = form(packet.family, Protocol.TCP, packet.destination_port, len(packet.payload), packet.fragments, TCP_SYN)
    start = struct.pack("!HHI", packet.source_port, packet.destination_port, SYN_SEQUENCE)
    return malform(packet, fill(packet, shared, start, packet.payload))


def ack(packet: Packet, *, sequence: int, acknowledge: int, payload: bytes = b"") -> list[bytes]:
    """Return an ACK without options, by default without payload."""
    return _segment(packet, TCP_ACK, sequence, acknowledge, payload)


def segment(
    packet: Packet, flags: int, *, sequence: int, acknowledge: int, payload: bytes | None = None
) -> list[bytes]:
    """Return a segment without options with any flags; its payload is the packet's unless another is given."""
    content = packet.payload if payload is None else payload
    if flags == TCP_SYN:
        flags |= _OPTIONLESS_FLAG
    return _segment(packet, flags, sequence, acknowledge, content)


def reset(packet: Packet, *, sequence: int) -> list[bytes]:
    """Return an RST that ends whatever the server still holds of the connection."""
    return _segment(packet, TCP_RST, sequence, 0, b"")


def with_data_offset(packet: Packet, frame: bytes, words: int) -> bytes:
    """Return a segment's frame that states another length of its TCP header, in words, and a checksum to match."""
    at = ETHERNET_HEADER + IP_HEADER[packet.family]
    changed = bytearray(frame[at:])
    changed[12] = words << 4 | changed[12] & 15
    set_checksum(packet, changed, len(changed))
    return frame[:at] + bytes(changed)


def to_group(frame: bytes, family: Family, group: str, *, as_unicast: bool = False) -> bytes:
    """Return a frame for a multicast or broadcast address instead of the server's.

    `as_unicast`: on the link it still goes to the server alone.
    """
    parsed: Any = Ether(frame)
    network = parsed[IP] if family is Family.IPV4 else parsed[IPv6]
    address = ipaddress.ip_address(group)
    network.dst = group
    if as_unicast:
        pass
    elif family is Family.IPV6:
        parsed.dst = "33:33:" + ":".join(f"{byte:02x}" for byte in address.packed[-4:])
    elif address.is_multicast:
        # RFC 1112: the low 23 bits of the address
        low = (address.packed[1] & 0x7F, *address.packed[2:])
        parsed.dst = "01:00:5e:" + ":".join(f"{byte:02x}" for byte in low)
    else:
        parsed.dst = "ff:ff:ff:ff:ff:ff"
    if family is Family.IPV4:
        del network.chksum
    del network.payload.chksum
    return bytes(parsed)


def to_all_on_the_link(frame: bytes) -> bytes:
    """Return a frame for everyone on the link; the address in its network header stays the server's."""
    return b"\xff" * 6 + frame[6:]


def cut_short(packet: Packet, length: int) -> bytes:
    """Return the frame of a SYN of which so many bytes are left, from the transport header on."""
    (frame,) = syn(packet)
    at = ETHERNET_HEADER + IP_HEADER[packet.family]
    whole: Any = network_layer(packet.family, packet.protocol) / Raw(frame[at : at + length])
    return bytes(Ether(src=PEER_MAC, dst=SERVER_MAC, type=packet.family.eth_protocol) / whole)


def port_unreachable(packet: Packet) -> bytes:
    """Return the ICMP error of the peer for what a member would answer to the packet: the peer has no such port."""
    if packet.family is Family.IPV4:
        return _icmp_error(packet, ICMP(type=ICMP_DEST_UNREACH, code=ICMP_PORT_UNREACH))
    return _icmp_error(packet, ICMPv6DestUnreach(code=ICMPV6_PORT_UNREACH))


def no_route(packet: Packet) -> bytes:
    """Return the ICMP error for what a member would answer to the packet: a router has no way to the peer now."""
    if packet.family is Family.IPV4:
        return _icmp_error(packet, ICMP(type=ICMP_DEST_UNREACH, code=ICMP_NET_UNREACH))
    return _icmp_error(packet, ICMPv6DestUnreach(code=ICMPV6_NOROUTE))


def time_exceeded(packet: Packet) -> bytes:
    """Return the ICMP error for what a member would answer to the packet: it passed too many routers."""
    return _icmp_error(packet, ICMP(type=ICMP_TIME_EXCEEDED) if packet.family is Family.IPV4 else ICMPv6TimeExceeded())


def parameter_problem(packet: Packet) -> bytes:
    """Return the ICMP error for what a member would answer to the packet: a field of its header is wrong."""
    return _icmp_error(packet, ICMP(type=ICMP_PARAMETERPROB) if packet.family is Family.IPV4 else ICMPv6ParamProblem())


def too_big(packet: Packet, mtu: int) -> bytes:
    """Return the ICMP error for what a member would answer to the packet: it does not fit a link on the way."""
    if packet.family is Family.IPV4:
        return _icmp_error(packet, ICMP(type=ICMP_DEST_UNREACH, code=ICMP_FRAG_NEEDED, nexthopmtu=mtu))
    return _icmp_error(packet, ICMPv6PacketTooBig(mtu=mtu))


def _icmp_error(packet: Packet, error: Any) -> bytes:
    family = packet.family
    quoted: Any = network_layer(family, packet.protocol)
    quoted.src, quoted.dst = packet.destination, packet.source
    transport: Any = UDP if packet.protocol is Protocol.UDP else TCP
    quoted /= transport(sport=packet.destination_port, dport=packet.source_port) / Raw(bytes(8))
    link = Ether(src=PEER_MAC, dst=SERVER_MAC, type=family.eth_protocol)
    network: Any = IP if family is Family.IPV4 else IPv6
    return bytes(link / network(src=packet.source, dst=packet.destination) / error / quoted)


def ping(sequence: int) -> bytes:
    """Return an ICMP echo request with the 16-bit sequence number; the answer carries it back."""
    template = _ping_template()
    # RFC 1624: the checksum of the template with sequence 0, less the new word
    total = (~struct.unpack_from("!H", template, 36)[0] & 0xFFFF) + sequence
    return template[:36] + struct.pack("!H", ~fold(total) & 0xFFFF) + template[38:40] + struct.pack("!H", sequence)


@lru_cache(maxsize=1)
def _ping_template() -> bytes:
    link = Ether(src=PEER_MAC, dst=SERVER_MAC)
    network = IP(src=Family.IPV4.peer, dst=Family.IPV4.server)
    return bytes(link / network / ICMP(type=ICMP_ECHO, id=_PING_ID, seq=0))


def _segment(packet: Packet, flags: int, sequence: int, acknowledge: int, payload: bytes) -> list[bytes]:
    shared = form(packet.family, Protocol.TCP, packet.destination_port, len(payload), (), 0)
    ports = packet.source_port, packet.destination_port
    start = struct.pack("!HHIIH", *ports, sequence, acknowledge, _FIVE_WORDS | flags)
    return fill(packet, shared, start, payload)
