# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is mutated, and which mutants are known to change nothing."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import c_edits, python_edits
from .mutant import Mutant, mutants_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SCOPE = Path(__file__).with_name("scope.toml")


class ScopeError(Exception):
    """The file or the command line names what is not there; the message says what."""


@dataclass(frozen=True, kw_only=True)
class Equivalent:
    """Mutants that no packet and no call can tell from the original: `change` of the line with `text`."""

    file: str
    text: str
    change: str
    reason: str
    places: tuple[int, ...] = ()
    """Which of the lines with the same text, from 0 on; all of them, if empty."""

    def covers(self, mutant: Mutant) -> bool:
        """Return whether `mutant` is one of them; a `*` stands for anything."""
        if self.file != mutant.file or (self.places and mutant.place not in self.places):
            return False
        return _fits(self.text, mutant.text) and _fits(self.change, mutant.change)


def _fits(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None or pattern == text


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The files that are mutated, the tests that know them beside the cases, and the equivalents."""

    files: tuple[str, ...]
    tests: tuple[str, ...]
    equivalents: tuple[Equivalent, ...]

    def reason(self, mutant: Mutant) -> str:
        """Return why a mutant changes nothing, "" if it is to be noticed."""
        return next((one.reason for one in self.equivalents if one.covers(mutant)), "")


def load(root: Path, path: Path = SCOPE) -> Scope:
    """Read the scope of the tree `root`. Raises ScopeError."""
    content = tomllib.loads(path.read_text())
    files = []
    for pattern in content["files"]:
        found = sorted(str(file.relative_to(root)) for file in root.glob(pattern))
        if not found:
            raise ScopeError(f"{path.name}: no file is called {pattern}")
        files += [name for name in found if name not in content["not"]]
    entries = content.get("equivalent", ())
    equivalents = tuple(Equivalent(**{**entry, "places": tuple(entry.get("places", ()))}) for entry in entries)
    return Scope(files=tuple(dict.fromkeys(files)), tests=tuple(content["tests"]), equivalents=equivalents)


def generate(root: Path, files: Iterable[str]) -> list[Mutant]:
    """Return every mutant of the files."""
    made = []
    for file in files:
        content = (root / file).read_bytes()
        edits = python_edits.edits_of(content) if file.endswith(".py") else c_edits.edits_of(content)
        made += mutants_of(file, content, edits)
    return made


def choose(mutants: Sequence[Mutant], names: Sequence[str]) -> list[Mutant]:
    """Return the mutants that `names` name, all if there are none: a path's start, FILE:LINE, or a digest.

    Raises ScopeError for a name that names none.
    """
    if not names:
        return list(mutants)
    for name in names:
        if not any(_is_named(mutant, name) for mutant in mutants):
            raise ScopeError(f"no mutant is of {name}: --list prints those that there are")
    return [mutant for mutant in mutants if any(_is_named(mutant, name) for name in names)]


def _is_named(mutant: Mutant, name: str) -> bool:
    return name in {mutant.digest, mutant.name, mutant.file} or mutant.file.startswith(f"{name.rstrip('/')}/")
