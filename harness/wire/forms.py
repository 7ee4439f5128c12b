# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Templates of frames: scapy builds each form of packet once, and packets of that form only change bytes in a copy.

Building a packet takes scapy about a millisecond, ten under emulation; changing ports, numbers and payload in a copy
takes a fiftieth of that.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness.model.addresses import packed
from harness.model.layout import Family, Protocol
from harness.model.uapi import TCP_SYN
from harness.wire.checksum import internet_checksum, transport_field, word_sum
from harness.wire.headers import CHECKSUM_AT, ETHERNET_HEADER, IP_HEADER, PEER_MAC, SERVER_MAC
from harness.wire.scapy_layers import IP, TCP, UDP, Ether, IPv6, IPv6ExtHdrFragment, Raw

if TYPE_CHECKING:
    from harness.model.packets import Packet

_MSS = 1460
_FRAGMENT_ID = 0x5E17


@dataclass(frozen=True)
class Form:
    """What frames of one form have in common; a packet's transport bytes go to the `places`."""

    frames: tuple[bytes, ...]
    places: tuple[tuple[int, int, int], ...]
    """For each frame: the offset of its transport bytes, and which of them (start, stop) it carries."""
    transport: bytes
    pseudo_header: int
    """The checksum's part that is not in the transport's bytes, for the peer's usual address."""
    checksum_at: int


@lru_cache(maxsize=1024)
def form(
    family: Family,
    protocol: Protocol,
    destination_port: int,
    payload_length: int,
    cuts: tuple[int, ...],
    flags: int,
) -> Form:
    """Return the form of packets like that; `cuts` are a packet's `fragments`, `flags` those of a TCP header."""
    transport_layer: Any
    if protocol is Protocol.UDP:
        transport_layer = UDP(sport=1, dport=destination_port)
    else:
        options = [("MSS", _MSS)] if flags == TCP_SYN else []
        transport_layer = TCP(sport=1, dport=destination_port, flags=flags, options=options)
    whole = network_layer(family, protocol) / transport_layer / Raw(bytes(payload_length))
    whole_bytes = bytes(whole)
    transport = whole_bytes[IP_HEADER[family] :]
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
    return Form(
        frames=tuple(frames),
        places=tuple(
            (len(frame) - (stop - start), start, stop) for frame, (start, stop) in zip(frames, pieces, strict=True)
        ),
        transport=transport,
        pseudo_header=word_sum(addresses) + protocol.number + len(transport),
        checksum_at=CHECKSUM_AT[protocol],
    )


def fill(packet: Packet, form: Form, start: bytes, payload: bytes) -> list[bytes]:
    """Return the form's frames with the transport header's first bytes, the payload and the packet's source put in."""
    transport = bytearray(form.transport)
    transport[: len(start)] = start
    if payload:
        transport[-len(payload) :] = payload
    at = form.checksum_at
    transport[at : at + 2] = b"\0\0"
    pseudo_header, frames = form.pseudo_header, form.frames
    if packet.source_address is not None:
        usual, source = packed(packet.family.peer), packed(packet.source_address)
        pseudo_header += word_sum(source) - word_sum(usual)
        frames = tuple(_with_source(packet.family, frame, source) for frame in frames)
    transport[at : at + 2] = struct.pack("!H", transport_field(pseudo_header + word_sum(transport)))
    return [
        frame[:offset] + bytes(transport[start:stop])
        for frame, (offset, start, stop) in zip(frames, form.places, strict=True)
    ]


def network_layer(family: Family, protocol: Protocol) -> Any:
    """Return scapy's IP layer of a packet from the peer to the server."""
    if family is Family.IPV4:
        return IP(src=family.peer, dst=family.server, proto=protocol.number)
    return IPv6(src=family.peer, dst=family.server, nh=protocol.number)


def _fragment(family: Family, protocol: Protocol, start: int, more: bool) -> Any:
    if family is Family.IPV4:
        layer = network_layer(family, protocol)
        layer.id, layer.flags, layer.frag = _FRAGMENT_ID, "MF" if more else 0, start // 8
        return layer
    return IPv6(src=family.peer, dst=family.server) / IPv6ExtHdrFragment(
        nh=protocol.number, offset=start // 8, m=int(more), id=_FRAGMENT_ID
    )


def _with_source(family: Family, frame: bytes, source: bytes) -> bytes:
    """Return the frame with another source address, and IPv4's header checksum changed with it."""
    if family is Family.IPV6:
        return frame[:22] + source + frame[38:]
    header = bytearray(frame[ETHERNET_HEADER:34])
    header[10:16] = b"\0\0" + source  # checksum, then source
    header[10:12] = struct.pack("!H", internet_checksum(header))
    return frame[:ETHERNET_HEADER] + bytes(header) + frame[34:]
