# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find the fields of a frame that matter to the choice of a member, to mark them in its hexdump."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.model.abi import CID_LENGTH, native_number
from harness.model.addresses import spelled
from harness.model.variants import Reads
from harness.wire.scapy_layers import IP, TCP, UDP, Ether, IPv6, Raw

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_ALWAYS = ("IP length", "UDP length", Reads.SOURCE_PORT, Reads.DESTINATION_PORT)
"""Fields that are shown whatever the program reads."""


def fields_of(frame: bytes, reads: Collection[Reads]) -> list[dict[str, Any]]:
    """Return the fields, as harness.interface.keys.FRAMES has them: the lengths, the ports, and what `reads` names.

    A fragment without the header or the payload lacks their fields.
    """
    found = []
    for name, start, end in _places(frame):
        if end <= len(frame) and (name in reads or name in _ALWAYS):
            value = _value(name, frame[start:end])
            found.append({"name": str(name), "value": value, "start": start, "end": end, "key": name in reads})
    return found


def _places(frame: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield each field with the offsets where it begins and ends."""
    at = 0
    layer: Any = Ether(frame)
    while layer:  # what follows the last one is false
        match layer:
            case IP():
                yield from (("IP length", at + 2, at + 4), (Reads.SOURCE_ADDRESS, at + 12, at + 16))
                yield Reads.DESTINATION_ADDRESS, at + 16, at + 20
            case IPv6():
                yield from (("IP length", at + 4, at + 6), (Reads.SOURCE_ADDRESS, at + 8, at + 24))
                yield Reads.DESTINATION_ADDRESS, at + 24, at + 40
            case UDP() | TCP():
                yield from ((Reads.SOURCE_PORT, at, at + 2), (Reads.DESTINATION_PORT, at + 2, at + 4))
                if isinstance(layer, UDP):
                    yield "UDP length", at + 4, at + 6
                payload = at + len(layer.raw_packet_cache)
                yield from _in_payload(frame, payload)
                return
            case Raw():
                return
        at += len(layer.raw_packet_cache or b"")
        layer = layer.payload


def _in_payload(frame: bytes, at: int) -> Iterator[tuple[str, int, int]]:
    yield from ((Reads.INDEX, at, at + 4), (Reads.SECOND_WORD, at + 4, at + 8), (Reads.FIRST_BYTE, at, at + 1))
    if at < len(frame):
        # RFC 9000, section 17: flags, and in a long header the version and the ID's length before the ID
        cid = at + 6 if frame[at] & 0x80 else at + 1
        yield Reads.CONNECTION_ID, cid, cid + CID_LENGTH


def _value(name: str, data: bytes) -> str:
    match name:
        case Reads.SOURCE_ADDRESS | Reads.DESTINATION_ADDRESS:
            return spelled(data)
        case Reads.INDEX | Reads.SECOND_WORD:
            return str(native_number(data))
        case Reads.CONNECTION_ID:
            return data.hex(" ")
        case _:
            return str(int.from_bytes(data, "big"))
