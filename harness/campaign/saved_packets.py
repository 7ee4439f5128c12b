# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Bent packets as text: a file that `--replay` takes, a case to paste into cases/, and lines of the kernel's log."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.model.bent import Bent
from harness.model.layout import Family, Protocol
from harness.model.malformed import Checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FORMAT, VERSION = "reuseport packets", 1
_LINE = re.compile(rf"{FORMAT} {VERSION}, (first|more): (\[.*\])$", re.MULTILINE)
_LONGEST_LINE = 900
"""Bytes of a line in the kernel's log, which takes 976 of one write (kernel/printk/printk.c, PRINTKRB_RECORD_MAX)."""


@dataclass(frozen=True, kw_only=True)
class SavedPackets:
    """Packets with what they showed, and where."""

    packets: tuple[Bent, ...]
    difference: str = ""
    """The last packet, what is expected of it, and what was observed; empty if nothing is known."""
    sentence: str = ""
    """What differs, alone."""
    kernel: str = ""
    unknown: tuple[str, ...] = ()
    """The entries of the ledger that the model was not told of."""
    seed: int = 0
    frames: tuple[str, ...] = ()
    """The frames of the last packet, in hexadecimal."""

    @property
    def name(self) -> str:
        """Return a name for its file: the kernel, and a digest of the packets."""
        digest = hashlib.sha256(json.dumps(to_json(self.packets)).encode()).hexdigest()
        return f"{self.kernel or 'packets'}-{digest[:8]}"

    def text(self) -> str:
        """Return the file's content."""
        return json.dumps(self.to_json(), indent=1) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "kernel": self.kernel,
            "seed": self.seed,
            "unknown": list(self.unknown),
            "difference": self.difference,
            "sentence": self.sentence,
            "frames": list(self.frames),
            "packets": to_json(self.packets),
        }

    @classmethod
    def from_json(cls, given: Any) -> SavedPackets:
        """Return what `to_json` wrote; ValueError says what is wrong with it."""
        if given.get("version") != VERSION:
            raise ValueError(f"it is of version {given.get('version')!r}, and this harness reads version {VERSION}")
        for name in ("unknown", "frames"):
            values = given.get(name, [])
            if not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
                raise ValueError(f'"{name}" is no list of texts')
        seed = given.get("seed", 0)
        if type(seed) is not int:
            raise ValueError('"seed" is no number')
        return cls(
            packets=from_json(given.get("packets")),
            difference=str(given.get("difference", "")),
            sentence=str(given.get("sentence", "")),
            kernel=str(given.get("kernel", "")),
            unknown=tuple(given.get("unknown", [])),
            seed=seed,
            frames=tuple(given.get("frames", [])),
        )

    def as_case(self) -> str:
        """Return a case to paste into cases/, which fails where this did."""
        values = "\n".join(f"        {spelled(bent)}," for bent in self.packets)
        told = f"\n        unknown={self.unknown!r}," if self.unknown else ""
        where = {
            "Checksum": "harness.model.malformed",
            "Family": "harness.model.layout",
            "Protocol": "harness.model.layout",
        }
        imports = ["from harness.model.bent import Bent"]
        imports += [f"from {module} import {name}" for name, module in where.items() if f"{name}." in values]
        return "\n".join([
            "from harness.cases import Packets",
            *sorted(imports),
            "",
            "",
            "def test_packets(packets: Packets) -> None:",
            *([f'    """{self.sentence[0].upper()}{self.sentence[1:]}."""'] if self.sentence else []),
            f"    packets(\n{values}{told}\n    )",
        ])  # fmt: skip


def to_json(packets: Iterable[Bent]) -> list[dict[str, Any]]:
    """Return packets as JSON: of each the fields that are not as usual."""
    return [{name: _plain(value) for name, value in bent.changed().items()} for bent in packets]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


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


def from_log(text: str) -> tuple[Bent, ...] | None:
    """Return the packets that were to be sent last, by a console's log; None if it has none."""
    rows: list[Any] | None = None
    for word, line in _LINE.findall(text):
        more = json.loads(line)
        rows = more if word == "first" or rows is None else rows + more
    return None if rows is None else from_json(rows)
