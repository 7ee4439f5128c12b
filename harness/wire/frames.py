# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Turn packets into Ethernet frames: scapy builds each form once, later packets of that form only change bytes.

Building a packet costs scapy about a millisecond, ten under emulation; patching ports, numbers and payload into a
copy costs a fiftieth of it.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness.model.addresses import packed
from harness.model.layout import Family, Protocol
from harness.model.malformed import internet_checksum, malform
from harness.model.packets import SYN_SEQUENCE
from harness.model.uapi import TCP_ACK, TCP_RST, TCP_SYN
from harness.wire.scapy_layers import ICMP, IP, TCP, UDP, Ether, ICMPv6DestUnreach, IPv6, IPv6ExtHdrFragment, Raw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.model.packets import Packet

SERVER_MAC = "02:00:00:00:00:01"
PEER_MAC = "02:00:00:00:00:09"

_MSS = 1460
_PSEUDO_FLAG = 0x100  # NS, since RFC 8311 of no meaning: tells a SYN without options from the usual one


@dataclass(frozen=True)
class _Form:
    """Hold what frames of one form share; the transport's bytes go where `places` say."""

    frames: tuple[bytes, ...]
    places: tuple[tuple[int, int, int], ...]
    """For each frame: offset of its transport bytes, and which of them (start, stop) it carries."""
    transport: bytes
    pseudo_header: int
    """The checksum's part that is not in the transport's bytes, for the peer's usual address."""
    checksum_at: int


def datagram(packet: Packet) -> list[bytes]:
    """Return the frames of a UDP packet, one for each fragment, in order."""
    payload = packet.payload
    form = _form(packet.family, Protocol.UDP, packet.destination_port, len(payload), packet.fragments, 0)
    return malform(packet, _fill(packet, form, struct.pack("!H", packet.source_port), payload))


def datagrams(packets: Sequence[Packet], payloads: Sequence[bytes]) -> list[bytes]:
    """Return the one frame of each of many UDP packets, given payloads of one even length.

    They differ in where they come from and in the payload. Raises ValueError if they go in fragments or are odd.
    """
    if any(packet.malformation is not None for packet in packets):
        raise ValueError("odd packets are made one by one")
    first, length = packets[0], len(payloads[0])
    form = _form(first.family, Protocol.UDP, first.destination_port, length, first.fragments, 0)
    size, usual = len(form.transport), _sum(packed(first.family.peer))
    words, header = struct.Struct(f"!{length // 2}H"), struct.Struct("!HHHH")
    begins: dict[str, tuple[bytes, int]] = {}  # by source: the frame before its UDP header, and what it adds to the sum
    made = []
    for packet, payload in zip(packets, payloads, strict=True):
        port, source = packet.source_port, packet.source
        if source not in begins:
            (frame,) = _fill(packet, form, b"", payload)
            beyond = form.pseudo_header + _sum(packed(source)) - usual + first.destination_port + size
            begins[source] = frame[: len(frame) - size], beyond
        begin, beyond = begins[source]
        checksum = ~_fold(beyond + port + sum(words.unpack(payload))) & 0xFFFF or 0xFFFF
        made.append(begin + header.pack(port, first.destination_port, size, checksum) + payload)
    return made


def syn(packet: Packet) -> list[bytes]:
    """Return the SYN that opens a TCP connection, with the packet's payload; its sequence is `SYN_SEQUENCE`."""
    form = _form(packet.family, Protocol.TCP, packet.destination_port, len(packet.payload), packet.fragments, TCP_SYN)
    start = struct.pack("!HHI", packet.source_port, packet.destination_port, SYN_SEQUENCE)
    return malform(packet, _fill(packet, form, start, packet.payload))


def ack(packet: Packet, *, sequence: int, acknowledge: int, payload: bytes = b"") -> list[bytes]:
    """Return the ACK that completes the handshake."""
    return _segment(packet, TCP_ACK, sequence, acknowledge, payload)


def segment(
    packet: Packet, flags: int, *, sequence: int, acknowledge: int, payload: bytes | None = None
) -> list[bytes]:
    """Return a segment without options with any flags; its payload is the packet's unless said otherwise."""
    content = packet.payload if payload is None else payload
    if flags == TCP_SYN:  # the form of a plain SYN has an option
        flags |= _PSEUDO_FLAG
    return _segment(packet, flags, sequence, acknowledge, content)


def with_data_offset(packet: Packet, frame: bytes, words: int) -> bytes:
    """Return a segment's frame that states another length of its TCP header, in words, and a checksum to match."""
    at = 14 + (20 if packet.family is Family.IPV4 else 40)
    changed = bytearray(frame)
    changed[at + 12] = words << 4 | changed[at + 12] & 15
    changed[at + 16 : at + 18] = b"\0\0"
    addresses = packed(packet.source) + packed(packet.destination)
    pseudo = addresses + struct.pack("!II", len(changed) - at, packet.protocol.number)
    struct.pack_into("!H", changed, at + 16, internet_checksum(pseudo + bytes(changed[at:])))
    return bytes(changed)


def to_group(frame: bytes, family: Family, group: str) -> bytes:
    """Return a datagram's frame for a multicast or broadcast address instead of the server's."""
    parsed: Any = Ether(frame)
    network = parsed[IP] if family is Family.IPV4 else parsed[IPv6]
    address = ipaddress.ip_address(group)
    network.dst = group
    if family is Family.IPV6:
        parsed.dst = "33:33:" + ":".join(f"{byte:02x}" for byte in address.packed[-4:])
    elif address.is_multicast:
        parsed.dst = "01:00:5e:" + ":".join(f"{byte:02x}" for byte in address.packed[-3:])
    else:
        parsed.dst = "ff:ff:ff:ff:ff:ff"
    if family is Family.IPV4:
        del network.chksum
    del parsed[UDP].chksum
    return bytes(parsed)


def port_unreachable(packet: Packet) -> bytes:
    """Return the ICMP error of a peer who was sent what a member would answer to the packet, and has no such port."""
    family = packet.family
    quoted: Any = _network(family, packet.protocol)
    quoted.src, quoted.dst = packet.destination, packet.source
    transport: Any = UDP if packet.protocol is Protocol.UDP else TCP
    quoted /= transport(sport=packet.destination_port, dport=packet.source_port) / Raw(bytes(8))
    link = Ether(src=PEER_MAC, dst=SERVER_MAC, type=family.eth_protocol)
    if family is Family.IPV4:
        return bytes(link / IP(src=packet.source, dst=packet.destination) / ICMP(type=3, code=3) / quoted)
    return bytes(link / IPv6(src=packet.source, dst=packet.destination) / ICMPv6DestUnreach(code=4) / quoted)


def reset(packet: Packet, *, sequence: int) -> list[bytes]:
    """Return an RST that ends whatever the server still holds of the connection."""
    return _segment(packet, TCP_RST, sequence, 0, b"")


def ping(sequence: int) -> bytes:
    """Return an ICMP echo request with the 16-bit sequence number; the answer carries it back."""
    template = _ping_template()
    # RFC 1624: the checksum of the template with sequence 0, less the new word
    total = (~struct.unpack_from("!H", template, 36)[0] & 0xFFFF) + sequence
    total = (total & 0xFFFF) + (total >> 16)
    return template[:36] + struct.pack("!H", ~total & 0xFFFF) + template[38:40] + struct.pack("!H", sequence)


@lru_cache(maxsize=1)
def _ping_template() -> bytes:
    link = Ether(src=PEER_MAC, dst=SERVER_MAC)
    network = IP(src=Family.IPV4.peer, dst=Family.IPV4.server)
    return bytes(link / network / ICMP(type=8, id=0x5E17, seq=0))


def _segment(packet: Packet, flags: int, sequence: int, acknowledge: int, payload: bytes) -> list[bytes]:
    form = _form(packet.family, Protocol.TCP, packet.destination_port, len(payload), (), flags)
    start = struct.pack("!HHII", packet.source_port, packet.destination_port, sequence, acknowledge)
    return _fill(packet, form, start, payload)


@lru_cache(maxsize=256)
def _form(
    family: Family,
    protocol: Protocol,
    destination_port: int,
    payload_length: int,
    cuts: tuple[int, ...],
    flags: int,
) -> _Form:
    transport_layer: Any
    if protocol is Protocol.UDP:
        transport_layer = UDP(sport=1, dport=destination_port)
    else:
        options = [("MSS", _MSS)] if flags == TCP_SYN else []
        transport_layer = TCP(sport=1, dport=destination_port, flags=flags, options=options)
    whole = _network(family, protocol) / transport_layer / Raw(bytes(payload_length))
    whole_bytes = bytes(whole)
    network_length = 20 if family is Family.IPV4 else 40
    transport = whole_bytes[network_length:]
    edges = [0, *cuts, len(transport)]
    pieces = list(pairwise(edges))
    link = Ether(src=PEER_MAC, dst=SERVER_MAC, type=family.eth_protocol)
    if not cuts:
        frames = [bytes(link) + whole_bytes]
    else:
        frames = [
            bytes(link / _fragment(family, protocol, start, stop < len(transport)) / Raw(transport[start:stop]))
            for start, stop in pieces
        ]
    addresses = whole_bytes[12:20] if family is Family.IPV4 else whole_bytes[8:40]
    return _Form(
        frames=tuple(frames),
        places=tuple(
            (len(frame) - (stop - start), start, stop) for frame, (start, stop) in zip(frames, pieces, strict=True)
        ),
        transport=transport,
        pseudo_header=_sum(addresses) + protocol.number + len(transport),
        checksum_at=6 if protocol is Protocol.UDP else 16,
    )


def _network(family: Family, protocol: Protocol) -> Any:
    if family is Family.IPV4:
        return IP(src=family.peer, dst=family.server, proto=protocol.number)
    return IPv6(src=family.peer, dst=family.server, nh=protocol.number)


def _fragment(family: Family, protocol: Protocol, start: int, more: bool) -> Any:
    if family is Family.IPV4:
        return IP(
            src=family.peer,
            dst=family.server,
            proto=protocol.number,
            id=0x5E17,
            flags="MF" if more else 0,
            frag=start // 8,
        )
    return IPv6(src=family.peer, dst=family.server) / IPv6ExtHdrFragment(
        nh=protocol.number, offset=start // 8, m=int(more), id=0x5E17
    )


def _fill(packet: Packet, form: _Form, start: bytes, payload: bytes) -> list[bytes]:
    """Return the form's frames with the transport header's first bytes, the payload and the source put in."""
    transport = bytearray(form.transport)
    transport[: len(start)] = start
    if payload:
        transport[-len(payload) :] = payload
    at = form.checksum_at
    transport[at : at + 2] = b"\0\0"
    # RFC 768: a UDP checksum that comes out as zero is sent as all ones
    pseudo_header, frames = form.pseudo_header, form.frames
    if packet.source_address is not None:
        usual, source = packed(packet.family.peer), packed(packet.source_address)
        pseudo_header += _sum(source) - _sum(usual)
        frames = tuple(_from(packet.family, frame, source) for frame in frames)
    checksum = ~_fold(pseudo_header + _sum(transport)) & 0xFFFF or 0xFFFF
    transport[at : at + 2] = struct.pack("!H", checksum)
    return [
        frame[:offset] + bytes(transport[start:stop])
        for frame, (offset, start, stop) in zip(frames, form.places, strict=True)
    ]


def _from(family: Family, frame: bytes, source: bytes) -> bytes:
    """Return the frame with another source address, and IPv4's header checksum with it."""
    if family is Family.IPV6:
        return frame[:22] + source + frame[38:]
    header = bytearray(frame[14:34])
    header[10:16] = b"\0\0" + source  # checksum, then source
    header[10:12] = struct.pack("!H", ~_fold(_sum(header)) & 0xFFFF)
    return frame[:14] + bytes(header) + frame[34:]


def _sum(data: bytes | bytearray) -> int:
    if len(data) % 2:
        data = bytes(data) + b"\0"
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def _fold(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
