# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The faults: one file of faults/ for each file of the kernel."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAULTS = Path(__file__).with_name("faults")

OPERATORS = (
    "wrong constant",
    "wrong comparison",
    "missing assignment",
    "missing call",
    "wrong errno",
    "lost on growth",
    "wrong order",
    "leak",
    "stale pointer",
)


class TableError(Exception):
    """An entry of the table is wrong; the message says which, and how."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One wrong edit of one function.

    `old` is found in the function, where any white space stands for any other. With `part`, which is in `old` once,
    the rest of `old` only says where.
    """

    name: str
    number: int  # from 1 on: what the kernel's parameter names it by
    file: str  # in the kernel's tree
    function: str
    breaks: tuple[str, ...]  # promises, as the marks of the cases name them
    operator: str
    old: str
    new: str  # a statement where what it replaces is one, and otherwise an expression; "" is nothing
    part: str = ""
    equivalent: str = ""  # why no packet and no call can tell, "" if one can

    @property
    def replaced(self) -> str:
        """Return the text in whose place `new` stands."""
        return self.part or self.old

    @property
    def digest(self) -> str:
        """Return what changes when the edit does."""
        text = "\0".join((self.file, self.function, self.old, self.part, self.new))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def load(directory: Path = FAULTS) -> tuple[Fault, ...]:
    """Read the faults, numbered in the order of the files and of what stands in them. Raises TableError."""
    faults: list[Fault] = []
    for path in sorted(directory.glob("*.toml")):
        entries = tomllib.loads(path.read_text())
        file = entries.pop("file")
        for name, entry in entries.items():
            faults.append(_read(name, entry, file=file, number=len(faults) + 1))
    names = [fault.name for fault in faults]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TableError(f"two faults are called {twice[0]}")
    return tuple(faults)


def _read(name: str, entry: dict[str, Any], *, file: str, number: int) -> Fault:
    fields = {**entry, "breaks": tuple(entry["breaks"]), "function": entry["in"]}
    del fields["in"]
    try:
        fault = Fault(name=name, number=number, file=file, **fields)
    except TypeError as error:
        raise TableError(f"{name}: {error}") from None
    if fault.operator not in OPERATORS:
        raise TableError(f"{name}: there is no operator {fault.operator!r}, but {', '.join(OPERATORS)}")
    if not fault.breaks:
        raise TableError(f"{name}: it breaks no promise")
    if fault.part and fault.old.count(fault.part) != 1:
        raise TableError(f"{name}: its part is not once in its old text")
    return fault
