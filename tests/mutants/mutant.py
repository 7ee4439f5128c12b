# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a mutant is: one file with one short text replaced. Pure."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

OPERATORS = (
    "comparison",
    "constant",
    "arithmetic",
    "logic",
    "deleted statement",
    "swapped branch",
    "byte order",
    "offset",
    "wrong field",
)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """The bytes of a file from `start` to `end` make way for `new`."""

    start: int
    end: int
    new: str
    operator: str
    at_import: bool = False
    """Python: the line runs as its module is imported, and no case can be seen to run it."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One edit of one file of the tree."""

    file: str
    edit: Edit
    line: int
    """The number of the line in which the edit starts, from 1 on."""
    text: str
    """That line, without the white space around it."""
    old: str
    """What the edit replaces."""
    place: int
    """How many like it stand before it in the file: the same edit of a line with the same text."""

    @property
    def digest(self) -> str:
        """Return what stays if lines above it change, and changes with the edit itself."""
        parts = (self.file, self.text, self.old, self.edit.new, self.edit.operator, str(self.place))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

    @cached_property
    def change(self) -> str:
        """Return in words what is changed."""
        old, new = (" ".join(text.split()) for text in (self.old, self.edit.new))
        return f"{old} → {new or 'nothing'}"

    @property
    def name(self) -> str:
        """Return its file and line, which name it on a command line."""
        return f"{self.file}:{self.line}"

    def apply(self, content: bytes) -> bytes:
        """Return the mutated content of the file."""
        return content[: self.edit.start] + self.edit.new.encode() + content[self.edit.end :]


def mutants_of(file: str, content: bytes, edits: list[Edit]) -> list[Mutant]:
    """Return the mutants that `edits` make of a file, in their order, none twice."""
    starts = [0, *(place + 1 for place, byte in enumerate(content) if byte == ord("\n"))]
    lines = content.decode().splitlines()
    made: list[Mutant] = []
    alike: dict[tuple[str, ...], int] = {}
    for edit in sorted(dict.fromkeys(edits), key=lambda edit: (edit.start, edit.end, edit.new)):
        line = bisect_right(starts, edit.start)
        text, old = lines[line - 1].strip(), content[edit.start : edit.end].decode()
        key = (text, old, edit.new, edit.operator)
        alike[key] = alike.get(key, -1) + 1
        made.append(Mutant(file=file, edit=edit, line=line, text=text, old=old, place=alike[key]))
    return made
