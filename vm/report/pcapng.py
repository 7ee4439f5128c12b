# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Write frames as pcapng (draft-ietf-opsawg-pcapng), with comments that name the case and what was expected."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from harness.interface.keys import FRAMES
from vm.report.stories import file_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_ETHERNET = 1  # LINKTYPE_ETHERNET
_COMMENT, _DIRECTION = 1, 2  # opt_comment, epb_flags
_LONGEST_COMMENT = 4000


def keep(
    properties: Iterable[tuple[str, object]], case: str, *, reason: str, kernel: str, directory: Path
) -> str | None:
    """Write the frames among a report's properties under `directory`; return the path of the file from there.

    None if there are no frames. Raises OSError.
    """
    frames: Any = next((value for name, value in properties if name == FRAMES), None)
    if not frames:
        return None
    captures = directory / kernel / "pcap"
    captures.mkdir(parents=True, exist_ok=True)
    path = captures / f"{file_name(case)}.pcapng"
    path.write_bytes(pcapng(frames, comment=f"{case} on {kernel}: {reason or 'as expected'}"))
    return str(path.relative_to(directory))


def pcapng(frames: Iterable[Mapping[str, Any]], *, comment: str) -> bytes:
    """Return a file with the frames, as reports carry them (FRAMES); `comment` is the file's."""
    blocks = [
        _block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _options({_COMMENT: _text(comment)})),
        _block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, 0)),
    ]
    for number, frame in enumerate(frames, start=1):
        data = bytes.fromhex(frame["data"])
        at = round(frame["at"] * 1e6)  # microseconds, where an interface says nothing else
        head = struct.pack("<IIIII", 0, at >> 32, at & 0xFFFFFFFF, len(data), len(data))
        direction = "to the server" if frame["sent"] else "from the server"
        note = f": {frame['note']}" if frame["note"] else ""
        options = {
            _COMMENT: _text(f"{number}: {direction}{note}"),
            _DIRECTION: struct.pack("<I", 2 if frame["sent"] else 1),
        }
        blocks.append(_block(_PACKET, head + _padded(data) + _options(options)))
    return b"".join(blocks)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _options(options: Mapping[int, bytes]) -> bytes:
    parts = [struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options.items()]
    return b"".join([*parts, struct.pack("<HH", 0, 0)])


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _text(text: str) -> bytes:
    return text.encode(errors="backslashreplace")[:_LONGEST_COMMENT].decode(errors="ignore").encode()
