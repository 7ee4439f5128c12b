# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The Internet checksum (RFC 1071) and its parts. Pure."""

from __future__ import annotations

import struct


def word_sum(data: bytes | bytearray) -> int:
    """Return the sum of the 16-bit words in network order, not folded; an odd last byte is padded with zero."""
    if len(data) % 2:
        data = bytes(data) + b"\0"
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def fold(total: int) -> int:
    """Return a sum as ones' complement arithmetic has it: in 16 bits, carries added."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def transport_field(total: int) -> int:
    """Return the checksum that a UDP or TCP header has for a sum: zero is sent as all ones, the same number.

    UDP's zero stands for "no checksum" (RFC 768).
    """
    return ~fold(total) & 0xFFFF or 0xFFFF


def internet_checksum(data: bytes | bytearray) -> int:
    """Return the checksum of the data, whose own checksum field has to be zero."""
    return ~fold(word_sum(data)) & 0xFFFF


def transport_checksum(protocol: int, source: bytes, destination: bytes, segment: bytes | bytearray) -> int:
    """Return the checksum of a UDP datagram or TCP segment, the pseudo-header included (RFC 768, 9293, 8200).

    `protocol` is its number, the addresses are bytes in network order, and the segment's checksum field has to be
    zero.
    """
    pseudo_header = source + destination + struct.pack("!II", len(segment), protocol)
    return transport_field(word_sum(pseudo_header) + word_sum(segment))
