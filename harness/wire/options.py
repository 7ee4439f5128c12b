# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Options of a TCP header: a SYN that has one more, and one's content in a reply. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.model.packets import SYN_SEQUENCE
from harness.model.uapi import TCP_SYN
from harness.wire import frames

if TYPE_CHECKING:
    from harness.model.packets import Packet

FAST_OPEN = 34
"""The kind of the fast-open cookie (RFC 7413)."""

_END, _NOTHING = 0, 1


def syn_with_option(packet: Packet, kind: int, content: bytes) -> list[bytes]:
    """Return the packet's SYN with that option and no other, padded to whole words."""
    return segment_with_option(packet, TCP_SYN, kind, content, sequence=SYN_SEQUENCE, acknowledge=0)


def segment_with_option(
    packet: Packet, flags: int, kind: int, content: bytes, *, sequence: int, acknowledge: int
) -> list[bytes]:
    """Return a segment with any flags, with the packet's payload, and that option alone."""
    option = bytes([kind, 2 + len(content)]) + content
    option += bytes([_NOTHING]) * (-len(option) % 4)
    (frame,) = frames.segment(
        packet, flags, sequence=sequence, acknowledge=acknowledge & 0xFFFFFFFF, payload=option + packet.payload
    )
    return [frames.with_data_offset(packet, frame, 5 + len(option) // 4)]


def option_of(options: bytes, kind: int) -> bytes:
    """Return an option's content from the options of a TCP header; b"" if it is not among them."""
    at = 0
    while at < len(options) and options[at] != _END:
        if options[at] == _NOTHING:
            at += 1
            continue
        if options[at] == kind:
            return options[at + 2 : at + options[at + 1]]
        at += options[at + 1]
    return b""
