# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Turn the usual frames of a packet into malformed ones. Pure."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from harness.model.addresses import packed
from harness.model.layout import Family, Protocol
from harness.model.malformed import Checksum
from harness.model.packets import TRANSPORT_HEADER
from harness.model.uapi import ETH_P_8021Q
from harness.wire.checksum import internet_checksum, transport_checksum
from harness.wire.headers import CHECKSUM_AT, ETHERNET_HEADER, IP_HEADER

if TYPE_CHECKING:
    from harness.model.malformed import Malformation
    from harness.model.packets import Packet

_TWO_MACS = 12


def malform(packet: Packet, frames: list[bytes]) -> list[bytes]:
    """Return the packet's frames with everything that its malformation says; the same frames without one.

    Raises ValueError for a malformation that cannot be put into frames of this packet.
    """
    malformation = packet.malformation
    if malformation is None:
        return frames
    _demand_possible(packet, malformation)
    made = [_network(packet.family, malformation, _transport(packet, malformation, frame)) for frame in frames]
    if malformation.order:
        made = [made[number] for number in malformation.order]
    tags = b"".join(struct.pack("!HH", ETH_P_8021Q, vlan) for vlan in malformation.vlans)
    return [frame[:_TWO_MACS] + tags + frame[_TWO_MACS:] + malformation.trailer for frame in made]


def _demand_possible(packet: Packet, malformation: Malformation) -> None:
    changes_transport = malformation.checksum is not Checksum.RIGHT or malformation.stated_length is not None
    if packet.fragments and changes_transport:
        raise ValueError("a fragmented packet cannot have another checksum or UDP length: leave out one of the two")
    if packet.protocol is not Protocol.UDP and malformation.stated_length is not None:
        raise ValueError("only UDP has a length field: leave out stated_length")
    if packet.protocol is not Protocol.UDP and malformation.checksum is Checksum.ABSENT:
        raise ValueError("only UDP can do without a checksum: take Checksum.WRONG")
    if len(malformation.ipv4_options) % 4:
        raise ValueError(f"{len(malformation.ipv4_options)} bytes of IPv4 options are not a multiple of 4")
    if malformation.ipv4_options and packet.family is not Family.IPV4:
        raise ValueError("an IPv6 packet cannot have IPv4 options")
    if malformation.ipv6_extensions and packet.family is not Family.IPV6:
        raise ValueError("an IPv4 packet cannot have IPv6 extension headers")


def _transport(packet: Packet, malformation: Malformation, frame: bytes) -> bytes:
    if packet.fragments:
        return frame
    at = ETHERNET_HEADER + IP_HEADER[packet.family]
    segment = bytearray(frame[at:])
    if (stated := malformation.stated_length) is not None:
        struct.pack_into("!H", segment, 4, stated)
        # What the kernel sums up, if it comes to that: as much as is stated and there.
        is_plausible = TRANSPORT_HEADER[Protocol.UDP] <= stated <= packet.full_length
        set_checksum(packet, segment, stated if is_plausible else packet.full_length)
    checksum_at = CHECKSUM_AT[packet.protocol]
    if malformation.checksum is Checksum.ABSENT:
        segment[checksum_at : checksum_at + 2] = b"\0\0"
    elif malformation.checksum is Checksum.WRONG:
        (right,) = struct.unpack_from("!H", segment, checksum_at)
        struct.pack_into("!H", segment, checksum_at, right ^ 0x5555 or 0x5555)
    return frame[:at] + bytes(segment)


def set_checksum(packet: Packet, segment: bytearray, covered: int) -> None:
    """Put the checksum of the first `covered` bytes of a packet's datagram or segment into it."""
    at = CHECKSUM_AT[packet.protocol]
    segment[at : at + 2] = b"\0\0"
    source, destination = packed(packet.source), packed(packet.destination)
    checksum = transport_checksum(packet.protocol.number, source, destination, segment[:covered])
    struct.pack_into("!H", segment, at, checksum)


def _network(family: Family, malformation: Malformation, frame: bytes) -> bytes:
    link, packet = frame[:ETHERNET_HEADER], bytearray(frame[ETHERNET_HEADER:])
    header, rest = packet[: IP_HEADER[family]], bytes(packet[IP_HEADER[family] :])
    if family is Family.IPV4:
        header += malformation.ipv4_options
        header[0] = 0x40 | len(header) // 4
        header[2:4] = struct.pack("!H", len(header) + len(rest))
        header[8] = malformation.hop_limit
        header[10:12] = b"\0\0"
        header[10:12] = struct.pack("!H", internet_checksum(header))
        return link + bytes(header) + rest
    following = header[6]
    chain = b""
    for number, content in reversed(malformation.ipv6_extensions):
        chain = bytes([following]) + content[1:] + chain
        following = number
    header[4:6] = struct.pack("!H", len(chain) + len(rest))
    header[6], header[7] = following, malformation.hop_limit
    return link + bytes(header) + chain + rest
