# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make the frames of a packet that is bent: scapy's valid layers (`forms`), changed byte by byte. Pure."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from harness.model.abi import pack_command
from harness.model.layout import Family, Protocol
from harness.model.malformed import Checksum
from harness.model.packets import SYN_SEQUENCE, TRANSPORT_HEADER, Packet
from harness.model.uapi import ETH_P_8021Q, TCP_SYN
from harness.wire import frames
from harness.wire.checksum import internet_checksum
from harness.wire.headers import CHECKSUM_AT, ETHERNET_HEADER, IP_HEADER
from harness.wire.malform import set_checksum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.model.bent import Bent

_TWO_MACS = 12
_FRAGMENT_ID = 0x5E17
_ACKNOWLEDGED = 77  # by segments that have the flag: no connection has that number
_FRAGMENT_HEADER = 44
_LONGEST = 0xFFFF
_LONGEST_FRAME = ETHERNET_HEADER + 1500
"""What the wire takes: a longer frame is cut off there."""


def valid(bent: Bent, port: int) -> Packet:
    """Return the valid packet that a bent one is made of."""
    content = (pack_command(bent.index) + bytes(place & 0xFF for place in range(bent.payload)))[: bent.payload]
    return Packet(
        protocol=bent.protocol,
        family=bent.family,
        source_port=bent.source_port,
        destination_port=port,
        payload=content,
    )


def bend(bent: Bent, port: int) -> list[bytes]:
    """Return its frames, in the order in which they are sent; `port` is the one that they are for."""
    packet = valid(bent, port)
    if bent.protocol is Protocol.UDP or bent.flags == TCP_SYN:
        (frame,) = frames.opening(packet)
    else:
        (frame,) = frames.segment(packet, bent.flags, sequence=SYN_SEQUENCE, acknowledge=_ACKNOWLEDGED)
    at = ETHERNET_HEADER + IP_HEADER[bent.family]
    transport = _transport(bent, packet, frame[at:])
    tags = b"".join(struct.pack("!HH", ETH_P_8021Q, vlan) for vlan in bent.vlans)
    link = frame[:_TWO_MACS] + tags + frame[_TWO_MACS:ETHERNET_HEADER]
    network = _ipv4 if bent.family is Family.IPV4 else _ipv6
    made = [link + each + bytes(bent.trailer) for each in network(bent, frame[ETHERNET_HEADER:at], transport)]
    return [frame[: max(len(link), min(len(frame) - bent.cut, _LONGEST_FRAME))] for frame in made]


def _transport(bent: Bent, packet: Packet, segment: bytes) -> bytes:
    if bent.checksum is Checksum.RIGHT and bent.stated_length is None and bent.data_offset is None:
        return segment
    changed = bytearray(segment)
    covered = len(changed)
    if bent.protocol is Protocol.UDP and bent.stated_length is not None:
        struct.pack_into("!H", changed, 4, bent.stated_length)
        if TRANSPORT_HEADER[Protocol.UDP] <= bent.stated_length <= covered:
            covered = bent.stated_length  # what the kernel sums up then
    if bent.protocol is Protocol.TCP and bent.data_offset is not None:
        changed[12] = bent.data_offset << 4 | changed[12] & 15
    set_checksum(packet, changed, covered)
    at = CHECKSUM_AT[bent.protocol]
    if bent.checksum is Checksum.ABSENT:
        changed[at : at + 2] = b"\0\0"
    elif bent.checksum is Checksum.WRONG:
        (right,) = struct.unpack_from("!H", changed, at)
        struct.pack_into("!H", changed, at, right ^ 0x5555 or 0x5555)
    return bytes(changed)


def _pieces(bent: Bent, transport: bytes) -> Iterator[tuple[int, bytes, bool]]:
    for start, stop, more in bent.fragments:
        yield start, transport[start:stop], more


def _ipv4(bent: Bent, header: bytes, transport: bytes) -> Iterator[bytes]:
    if not bent.fragments:
        yield _ipv4_packet(bent, header, transport, header[6:8])
    for start, piece, more in _pieces(bent, transport):
        yield _ipv4_packet(bent, header, piece, struct.pack("!H", more << 13 | start // 8))


def _ipv4_packet(bent: Bent, header: bytes, data: bytes, fragment: bytes) -> bytes:
    made = bytearray(header + bent.options)
    words = len(made) // 4 if bent.header_words is None else bent.header_words
    made[0] = (4 if bent.version is None else bent.version) << 4 | words
    struct.pack_into("!HH", made, 2, _length(bent, len(made) + len(data)), _FRAGMENT_ID)
    made[6:8] = fragment
    made[8] = bent.hop_limit
    if bent.next_header is not None:
        made[9] = bent.next_header
    made[10:12] = b"\0\0"
    summed = bytes(made) + data
    checksum = internet_checksum(summed[: words * 4] if 5 <= words <= len(summed) // 4 else bytes(made))
    if bent.header_checksum is Checksum.ABSENT:
        checksum = 0
    elif bent.header_checksum is Checksum.WRONG:
        checksum ^= 0x5555
    struct.pack_into("!H", made, 10, checksum)
    return bytes(made) + data


def _ipv6(bent: Bent, header: bytes, transport: bytes) -> Iterator[bytes]:
    last = header[6] if bent.next_header is None else bent.next_header
    if not bent.fragments:
        yield _ipv6_packet(bent, header, bent.extensions, last, transport)
    for start, piece, more in _pieces(bent, transport):
        content = struct.pack("!BBHI", 0, 0, start & 0xFFF8 | more, _FRAGMENT_ID)
        yield _ipv6_packet(bent, header, (*bent.extensions, (_FRAGMENT_HEADER, content)), last, piece)


def _ipv6_packet(
    bent: Bent, header: bytes, extensions: tuple[tuple[int, bytes], ...], following: int, data: bytes
) -> bytes:
    made, chain = bytearray(header), b""
    for number, content in reversed(extensions):
        chain = bytes([following]) + content[1:] + chain
        following = number
    if bent.version is not None:
        made[0] = bent.version << 4 | made[0] & 15
    struct.pack_into("!H", made, 4, _length(bent, len(chain) + len(data)))
    made[6], made[7] = following, bent.hop_limit
    return bytes(made) + chain + data


def _length(bent: Bent, right: int) -> int:
    return min(max(right + bent.more_length, 0), _LONGEST)
