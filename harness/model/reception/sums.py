# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Whether checksums are right: RFC 1071, with the pseudo headers of RFC 9293 and RFC 8200. Pure."""

from __future__ import annotations

import struct


def is_sound(data: bytes) -> bool:
    """`ip_fast_csum`, `csum_fold`: whether the words add up to all ones, their checksum among them."""
    return _total(data) % 0xFFFF == 0 and any(data)


def is_sound_for(protocol: int, source: bytes, destination: bytes, data: bytes) -> bool:
    """Do the same for what is behind a pseudo header (`csum_tcpudp_nofold`, `csum_ipv6_magic`)."""
    return is_sound(source + destination + struct.pack("!II", len(data), protocol) + data)


def _total(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    return sum(struct.unpack(f"!{len(data) // 2}H", data))
