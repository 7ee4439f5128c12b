# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Bent packets as text: a file that `--replay` takes, a case to paste into cases/, and lines of the kernel's log."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.campaign.found import Found, texts
from harness.model.bent import Bent
from harness.model.layout import Family, Protocol
from harness.model.malformed import Checksum
from harness.model.plain import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FORMAT, VERSION = "reuseport packets", 1
_LINE = re.compile(rf"{FORMAT} {VERSION}, (first|more): (\[.*\])$", re.MULTILINE)
_LONGEST_LINE = 900
"""Bytes of a line in the kernel's log, which takes 976 of one write (kernel/printk/printk.c, PRINTKRB_RECORD_MAX)."""


@dataclass(frozen=True, kw_only=True)
class SavedPackets(Found):
    """Packets with what the last of them showed, and where."""

    FORMAT: ClassVar[str] = FORMAT
    VERSION: ClassVar[int] = VERSION
    KIND: ClassVar[str] = "packets"

    packets: tuple[Bent, ...]
    frames: tuple[str, ...] = ()
    """The frames of the last packet, in hexadecimal."""

    def rows(self) -> list[Any]:
        """Return the packets as JSON."""
        return to_json(self.packets)

    def content(self) -> dict[str, Any]:
        """Return the frames and the packets as JSON."""
        return {"frames": list(self.frames), "packets": self.rows()}

    @classmethod
    def from_json(cls, given: Any) -> SavedPackets:
        """Return what `to_json` wrote; ValueError says what is wrong with it."""
        return cls(**cls.shared_fields(given), packets=from_json(given.get("packets")), frames=texts(given, "frames"))

    def as_case(self) -> str:
        """Return a case to paste into cases/, which fails where this did."""
        values = [spelled(bent) for bent in self.packets]
        where = {
            "Checksum": "harness.model.malformed",
            "Family": "harness.model.layout",
            "Protocol": "harness.model.layout",
        }
        imports = ["from harness.model.bent import Bent"]
        imports += [f"from {module} import {name}" for name, module in where.items() if f"{name}." in "".join(values)]
        return self.case(fixture_type="Packets", imports=imports, values=values)


def to_json(packets: Iterable[Bent]) -> list[dict[str, Any]]:
    """Return packets as JSON: of each the fields that are not as usual."""
    return [{name: plain(value) for name, value in bent.changed().items()} for bent in packets]


def from_json(rows: Any) -> tuple[Bent, ...]:
    """Return the packets that `to_json` wrote; ValueError says what is wrong, and in which packet."""
    if not isinstance(rows, list):
        raise ValueError("the packets are no list")
    return tuple(_packet(place, row) for place, row in enumerate(rows, 1))


def _packet(place: int, row: Any) -> Bent:
    if not isinstance(row, dict):
        raise ValueError(f"packet {place}, {row!r}, is no mapping of fields")
    made = {}
    for name, value in row.items():
        if name not in _READ:
            raise ValueError(f"packet {place}: {name!r} is none of {', '.join(_READ)}")
        try:
            made[name] = _READ[name](value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"packet {place}: {name} {value!r}: {error}") from error
    return Bent(**made)


def _number(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"it is no number from {low} to {high}")
        return value

    return read


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("it is neither true nor false")
    return value


_PORT, _LENGTH, _BYTE, _NIBBLE = _number(0, 65535), _number(0, 1400), _number(0, 255), _number(0, 15)
_OFFSET = _number(0, 1500)


def _fragment(value: Any) -> tuple[int, int, bool]:
    start, stop, more = value
    return _OFFSET(start), _OFFSET(stop), _truth(more)


def _extension(value: Any) -> tuple[int, bytes]:
    number, content = value
    return _BYTE(number), _whole(8, bytes.fromhex(content))


def _whole(size: int, content: bytes) -> bytes:
    if len(content) % size:
        raise ValueError(f"{len(content)} bytes are not a multiple of {size}")
    return content


_READ: dict[str, Callable[[Any], Any]] = {
    "protocol": Protocol,
    "family": Family,
    "index": _number(0, 0xFFFFFFFF),
    "payload": _LENGTH,
    "source_port": _PORT,
    "assigned": _truth,
    "checksum": Checksum,
    "stated_length": _PORT,
    "flags": _BYTE,
    "data_offset": _NIBBLE,
    "next_header": _BYTE,
    "vlans": lambda values: tuple(map(_PORT, values)),
    "version": _NIBBLE,
    "header_words": _NIBBLE,
    "more_length": _number(-65535, 65535),
    "header_checksum": Checksum,
    "hop_limit": _BYTE,
    "options": lambda text: _whole(4, bytes.fromhex(text)),
    "extensions": lambda values: tuple(map(_extension, values)),
    "fragments": lambda values: tuple(map(_fragment, values)),
    "trailer": _LENGTH,
    "cut": _LENGTH,
}


def spelled(bent: Bent) -> str:
    """Return the packet as Python that makes it."""
    words = []
    for name, value in bent.changed().items():
        is_name = isinstance(value, Protocol | Family | Checksum)
        words.append(f"{name}={type(value).__name__}.{value.name}" if is_name else f"{name}={value!r}")
    return f"Bent({', '.join(words)})"


def log_lines(packets: Iterable[Bent]) -> Iterator[str]:
    """Yield the lines that stand in the kernel's log before packets are sent, each with whole packets."""
    word, held = "first", ""
    for row in to_json(packets):
        text = json.dumps(row, separators=(",", ":"))
        if held and len(held) + len(text) > _LONGEST_LINE:
            yield f"{FORMAT} {VERSION}, {word}: [{held}]"
            word, held = "more", ""
        held += ("," if held else "") + text
    yield f"{FORMAT} {VERSION}, {word}: [{held}]"


def from_log(text: str) -> SavedPackets | None:
    """Return the packets that were to be sent last, by a console's log; None if it has none."""
    rows: list[Any] | None = None
    for word, line in _LINE.findall(text):
        more = json.loads(line)
        rows = more if word == "first" or rows is None else rows + more
    return None if rows is None else SavedPackets(packets=from_json(rows))
