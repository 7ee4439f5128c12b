# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The faults: one file of faults/ for each file of the kernel."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vm.kernels.flavours import FLAVOURS

if TYPE_CHECKING:
    from collections.abc import Collection

FAULTS = Path(__file__).with_name("faults")

OPERATORS = (
    "wrong constant",
    "wrong comparison",
    "wrong operand",
    "missing assignment",
    "missing call",
    "wrong errno",
    "lost on growth",
    "wrong order",
    "leak",
    "stale pointer",
)


MANY_TRIES = "many tries"

SEEN_BY = (*FLAVOURS, MANY_TRIES)
"""What it may take to see a fault, where a run of the cases on a plain kernel is not enough."""


class TableError(Exception):
    """An entry of the table is wrong; the message says which, and how."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One edit of one function.

    `old` is found in the function, where any white space stands for any other. With `part`, which is in `old` once,
    the rest of `old` only says where.
    """

    file: str  # in the kernel's tree
    function: str
    old: str
    new: str  # a statement where what it replaces is one, and otherwise an expression; "" is nothing
    part: str = ""

    @property
    def replaced(self) -> str:
        """Return the text in whose place `new` stands."""
        return self.part or self.old


@dataclass(frozen=True, kw_only=True)
class Fault(Edit):
    """One fault: its edit, and `also` what has to be edited with it."""

    name: str
    number: int  # from 1 on: what the kernel's parameter names it by
    breaks: tuple[str, ...]  # promises, as the marks of the cases name them
    operator: str
    also: tuple[Edit, ...] = ()
    equivalent: str = ""  # why no packet and no call can tell, "" if one can
    seen_by: str = ""  # one of SEEN_BY, "" if the cases see it on a plain kernel

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Return all its edits, in the order of the table."""
        return (self, *self.also)

    def is_for(self, flavours: Collection[str]) -> bool:
        """Tell whether the cases are to notice it on a kernel of these flavours; with none: on a plain kernel."""
        return not self.equivalent and (self.seen_by in flavours if flavours else not self.seen_by)

    @property
    def digest(self) -> str:
        """Return what changes when an edit does."""
        text = "\0".join(text for one in self.edits for text in (one.file, one.function, one.old, one.part, one.new))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def load(directory: Path = FAULTS) -> tuple[Fault, ...]:
    """Read the faults, numbered in the order of the files and of what stands in them. Raises TableError."""
    faults: list[Fault] = []
    for path in sorted(directory.glob("*.toml")):
        entries = tomllib.loads(path.read_text())
        file = entries.pop("file", None)
        for name, entry in entries.items():
            faults.append(_read(name, entry, file=file, number=len(faults) + 1))
    names = [fault.name for fault in faults]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TableError(f"two faults are called {twice[0]}")
    return tuple(faults)


def _read(name: str, entry: dict[str, Any], *, file: str | None, number: int) -> Fault:
    try:
        fields = _edited(entry, file=file)
        also = tuple(Edit(**_edited(one, file=fields["file"])) for one in fields.pop("also", ()))
        fault = Fault(name=name, number=number, also=also, **{**fields, "breaks": tuple(fields["breaks"])})
    except TypeError as error:
        raise TableError(f"{name}: {error}") from None
    if fault.operator not in OPERATORS:
        raise TableError(f"{name}: there is no operator {fault.operator!r}, but {', '.join(OPERATORS)}")
    if not fault.breaks:
        raise TableError(f"{name}: it breaks no promise")
    if fault.seen_by and fault.seen_by not in SEEN_BY:
        raise TableError(f"{name}: nothing is called {fault.seen_by!r} that would see it, but {', '.join(SEEN_BY)}")
    if any(one.part and one.old.count(one.part) != 1 for one in fault.edits):
        raise TableError(f"{name}: its part is not once in its old text")
    return fault


def _edited(entry: dict[str, Any], *, file: str | None) -> dict[str, Any]:
    """Return the fields of an edit, in which `in` is no name."""
    fields = {"file": file, **entry}
    fields["function"] = fields.pop("in")
    return fields
