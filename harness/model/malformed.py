# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make usual frames odd: tags, options, extension headers, false lengths and checksums, fragments out of order. Pure.

What an oddity means for a packet's fate is said here too, so that the model has one place to ask.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.model.layout import Family, Protocol

if TYPE_CHECKING:
    from harness.model.packets import Packet

CHECKSUM_BREAK = 76
"""Longest packet whose checksum is complete before the lookup (include/linux/skbuff.h `CHECKSUM_BREAK`)."""

_ETHERNET, _IPV4, _IPV6, _UDP = 14, 20, 40, 8


class Checksum(StrEnum):
    """Say what stands in the transport's checksum."""

    RIGHT = "right"
    WRONG = "wrong"
    ABSENT = "absent"


class Fate(StrEnum):
    """Say how far a packet comes."""

    USUAL = "usual"
    LOST_BEFORE = "lost before the program runs"
    LOST_AFTER = "lost after the program ran"


@dataclass(frozen=True, kw_only=True)
class Malformation:
    """Say what is unusual about a packet's frames.

    `ipv4_options` is a multiple of four bytes. `ipv6_extensions` are pairs of a header's number and its bytes, whose
    first one (the next header) is filled in. `vlans` are 802.1Q tags from the outside in. `stated_length` is UDP's own
    length field. `trailer` follows the IP packet, as Ethernet's padding does. `order` lists the fragments to send, by
    their numbers, where that is not each of them once and in order.
    """

    checksum: Checksum = Checksum.RIGHT
    stated_length: int | None = None
    trailer: bytes = b""
    ipv4_options: bytes = b""
    ipv6_extensions: tuple[tuple[int, bytes], ...] = ()
    vlans: tuple[int, ...] = ()
    hop_limit: int = 64
    order: tuple[int, ...] = ()


def fate(packet: Packet) -> Fate:
    """Return how far a packet comes (`__udp4_lib_rcv`, `__udp6_lib_rcv`, `tcp_v4_rcv`, `skb_vlan_untag`)."""
    malformation = packet.malformation
    if malformation is None:
        return Fate.USUAL
    if any(
        vlan & 0x0FFF for vlan in malformation.vlans
    ):  # tag 0 is a mere priority; any other is for a device that is not there
        return Fate.LOST_BEFORE
    stated = malformation.stated_length
    if stated is not None and not _UDP <= stated <= packet.full_length:
        # IPv6 takes a length of zero as "see the network header" (jumbograms, RFC 2675)
        jumbo = packet.family is Family.IPV6 and stated == 0
        return Fate.USUAL if jumbo else Fate.LOST_BEFORE
    if malformation.checksum is Checksum.WRONG:
        return Fate.LOST_BEFORE if packet.transport_length <= CHECKSUM_BREAK else Fate.LOST_AFTER
    if malformation.checksum is Checksum.ABSENT and packet.family is Family.IPV6:
        return Fate.LOST_AFTER  # udp6_csum_zero_error() is the socket's affair: it could have asked for such packets
    return Fate.USUAL


def malform(packet: Packet, frames: list[bytes]) -> list[bytes]:
    """Return the usual frames of a packet made as odd as it says."""
    malformation = packet.malformation
    if malformation is None:
        return frames
    made = [
        _network(packet.family, malformation, frame)
        for frame in (_transport(packet, malformation, each) for each in frames)
    ]
    if malformation.order:
        made = [made[number] for number in malformation.order]
    tags = b"".join(struct.pack("!HH", 0x8100, vlan) for vlan in malformation.vlans)
    return [frame[:12] + tags + frame[12:] + malformation.trailer for frame in made]


def _transport(packet: Packet, malformation: Malformation, frame: bytes) -> bytes:
    if packet.fragments:
        return frame
    at = _ETHERNET + (_IPV4 if packet.family is Family.IPV4 else _IPV6)
    changed = bytearray(frame)
    checksum_at = at + (6 if packet.protocol is Protocol.UDP else 16)
    if malformation.stated_length is not None:
        struct.pack_into("!H", changed, at + 4, malformation.stated_length)
        covered = (
            malformation.stated_length
            if _UDP <= malformation.stated_length <= packet.full_length
            else packet.full_length
        )
        changed[checksum_at : checksum_at + 2] = b"\0\0"
        addresses = b"".join(ipaddress.ip_address(each).packed for each in (packet.source, packet.destination))
        pseudo = addresses + struct.pack("!II", covered, packet.protocol.number)
        checksum = internet_checksum(pseudo + bytes(changed[at : at + covered])) or 0xFFFF
        struct.pack_into("!H", changed, checksum_at, checksum)
    if malformation.checksum is Checksum.ABSENT:
        changed[checksum_at : checksum_at + 2] = b"\0\0"
    elif malformation.checksum is Checksum.WRONG:
        (right,) = struct.unpack_from("!H", changed, checksum_at)
        struct.pack_into("!H", changed, checksum_at, right ^ 0x5555 or 0x5555)
    return bytes(changed)


def _network(family: Family, malformation: Malformation, frame: bytes) -> bytes:
    link, packet = frame[:_ETHERNET], bytearray(frame[_ETHERNET:])
    if family is Family.IPV4:
        header = packet[:_IPV4] + malformation.ipv4_options
        header[0] = 0x40 | len(header) // 4
        header[2:4] = struct.pack("!H", len(packet) + len(malformation.ipv4_options))
        header[8] = malformation.hop_limit
        header[10:12] = b"\0\0"
        header[10:12] = struct.pack("!H", internet_checksum(bytes(header)))
        return link + bytes(header) + bytes(packet[_IPV4:])
    header, following = packet[:_IPV6], packet[6]
    chain = b""
    for number, content in reversed(malformation.ipv6_extensions):
        chain = bytes([following]) + content[1:] + chain
        following = number
    header[4:6] = struct.pack("!H", len(packet) - _IPV6 + len(chain))
    header[6], header[7] = following, malformation.hop_limit
    return link + bytes(header) + chain + bytes(packet[_IPV6:])


def internet_checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
