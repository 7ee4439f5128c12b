# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A packet in hexadecimal with the fields that mattered marked. Pure."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vm.report.results import FieldEntry

_ROW = 16


def hexdump(data: bytes, fields: Sequence[FieldEntry] = ()) -> Markup:
    """Return bytes as lines of sixteen: offset, hexadecimal, and characters.

    The bytes of each of `fields` are marked, those of a key as such.
    """
    of_byte: dict[int, FieldEntry] = {}
    for field in sorted(fields, key=lambda field: bool(field["key"])):  # a key may be a part of another field
        of_byte |= dict.fromkeys(range(field["start"], field["end"]), field)
    lines = []
    for start in range(0, len(data), _ROW):
        row = range(start, min(start + _ROW, len(data)))
        pairs = _marked(row, of_byte, {at: f"{data[at]:02x}" for at in row}, between=" ")
        shown = {at: chr(data[at]) if 32 <= data[at] < 127 else "." for at in row}
        padding = " " * 3 * (_ROW - len(row))
        characters = _marked(row, of_byte, shown, between="")
        lines.append(Markup("{}  {}{}  {}").format(f"{start:04x}", pairs, padding, characters))
    return Markup("\n").join(lines)


def _marked(row: range, of_byte: Mapping[int, FieldEntry], text: Mapping[int, str], *, between: str) -> Markup:
    """Return the text of the bytes of a row, with what is of one field in one mark."""
    parts = []
    for _, group in groupby(row, key=lambda at: id(of_byte.get(at))):
        places = list(group)
        field = of_byte.get(places[0])
        said = between.join(text[at] for at in places)
        if field is None:
            parts.append(Markup("{}").format(said))
        else:
            kind = "key" if field["key"] else "field"
            title = f"{field['name']} {field['value']}"
            parts.append(Markup('<mark class="{}" title="{}">{}</mark>').format(kind, title, said))
    return Markup(between).join(parts)
