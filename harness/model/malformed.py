# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What can be unusual about a packet's frames: tags, options, extension headers, wrong lengths and checksums. Pure.

harness/wire/malform.py makes frames like that; harness/model/fate.py says how far they get.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CHECKSUM_BREAK = 76
"""Longest packet whose checksum is verified before the lookup (include/linux/skbuff.h `CHECKSUM_BREAK`)."""

USUAL_HOP_LIMIT = 64


class Checksum(StrEnum):
    """The transport's checksum: as it should be, another number, or zero."""

    RIGHT = "right"
    WRONG = "wrong"
    ABSENT = "absent"


@dataclass(frozen=True, kw_only=True)
class Malformation:
    """Everything unusual about a packet's frames.

    `ipv4_options` is a multiple of four bytes. `ipv6_extensions` are pairs of a header's number and its bytes, a
    multiple of eight; the first of them, the next header, is filled in. `vlans` are 802.1Q tags from the outside in.
    `stated_length` is UDP's own length field. `trailer` follows the IP packet, as Ethernet's padding does. `order`
    lists the numbers of the fragments to send; empty: each of them once and in order.
    """

    checksum: Checksum = Checksum.RIGHT
    stated_length: int | None = None
    trailer: bytes = b""
    ipv4_options: bytes = b""
    ipv6_extensions: tuple[tuple[int, bytes], ...] = ()
    vlans: tuple[int, ...] = ()
    hop_limit: int = USUAL_HOP_LIMIT
    order: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return what is unusual in words, nothing of what is as always."""
        words = []
        if self.checksum is not Checksum.RIGHT:
            words.append("no checksum" if self.checksum is Checksum.ABSENT else "a wrong checksum")
        if self.stated_length is not None:
            words.append(f"a UDP length of {self.stated_length}")
        if self.ipv4_options:
            words.append(f"IPv4 options {self.ipv4_options.hex(' ')}")
        if self.ipv6_extensions:
            words.append(f"IPv6 extension headers {_list(number for number, _ in self.ipv6_extensions)}")
        if self.vlans:
            words.append(f"VLAN tags {_list(self.vlans)}")
        if self.hop_limit != USUAL_HOP_LIMIT:
            words.append(f"a hop limit of {self.hop_limit}")
        if self.trailer:
            words.append(f"{len(self.trailer)} bytes behind the IP packet")
        if self.order:
            words.append(f"fragments in the order {_list(self.order)}")
        return ", ".join(words)


def _list(numbers: Iterable[int]) -> str:
    return "+".join(map(str, numbers))
