# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which cases may notice a mutant, and in which order they are tried. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .mutant import Mutant

_TURNS_AT_IMPORT = 2
"""On a line that runs as its module is imported any case may depend: of each function that uses what it defines, or of
every function, so many are tried."""

_LINES_OF_A_STATEMENT = 8


@dataclass(frozen=True, kw_only=True)
class Case:
    """A case that passes without a mutant."""

    id: str
    seconds: float
    variants: frozenset[str]
    """The programs that it loads."""
    lines: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """The lines of the model that it runs, by file."""

    @property
    def function(self) -> str:
        """Return its id without parameters."""
        return self.id.partition("[")[0]

    @property
    def is_unit_test(self) -> bool:
        """Return whether it is a test of the model alone, without a kernel."""
        return self.id.startswith("tests/")


@dataclass(frozen=True, kw_only=True)
class Reach:
    """All cases, and which programs are made of which files of bpf/."""

    cases: tuple[Case, ...]
    sources: Mapping[str, frozenset[str]]
    """The variants that are compiled from a file, directly or as a header."""
    model: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The lines of the model, by file."""

    @cached_property
    def _by_line(self) -> Mapping[tuple[str, int], list[Case]]:
        found: dict[tuple[str, int], list[Case]] = defaultdict(list)
        for case in self.cases:
            for file, lines in case.lines.items():
                for line in lines:
                    found[file, line].append(case)
        return found

    def _running(self, file: str, line: int) -> Sequence[Case]:
        """Return the cases that run a line, or where it goes on with a statement, the line that this begins on."""
        for earlier in range(line, max(line - _LINES_OF_A_STATEMENT, 0), -1):
            if cases := self._by_line.get((file, earlier)):
                return cases
        return ()

    def _using(self, mutant: Mutant) -> Sequence[Case]:
        """Return the cases that run a line of the model which names what the mutated line defines."""
        name = _defined(self.model.get(mutant.file, ()), mutant.line)
        if not name:
            return ()
        if any(name in case.variants for case in self.cases):  # an entry of the table of variants
            return [case for case in self.cases if name in case.variants]
        word = re.compile(rf"\b{re.escape(name)}\b")
        found = {
            case.id: case
            for file, lines in self.model.items()
            for number, line in enumerate(lines, 1)
            if word.search(line)
            for case in self._by_line.get((file, number), ())
        }
        return list(found.values())

    def as_run(self, mutant: Mutant) -> Mutant:
        """Return the mutant as one of what runs at import if no case is seen to run its line: a decorator's, say."""
        if mutant.edit.at_import or not mutant.file.endswith(".py") or self._running(mutant.file, mutant.line):
            return mutant
        return replace(mutant, edit=replace(mutant.edit, at_import=True))

    def variants(self, mutant: Mutant) -> frozenset[str]:
        """Return the programs that a mutant of bpf/ changes."""
        return self.sources.get(mutant.file, frozenset())

    def order(self, mutant: Mutant, *, first: Iterable[str] = ()) -> list[Case]:
        """Return the cases to try, those whose ids are `first` before the others; all of them meet the mutant."""
        if not mutant.file.endswith(".py"):
            changed = self.variants(mutant)
            meeting = _spread([case for case in self.cases if case.variants & changed])
        elif mutant.edit.at_import:
            using = self._using(mutant) or self.cases
            # Tests of the model ask for names, which runs no line; they are quick, and all of them run.
            tests = [case for case in self.cases if case.is_unit_test]
            cases = [case for case in using if not case.is_unit_test]
            meeting = [*_spread(cases, turns=_TURNS_AT_IMPORT), *_spread(tests)]
        else:
            meeting = _spread(self._running(mutant.file, mutant.line))
        there = {case.id: case for case in meeting}
        known = [there[name] for name in dict.fromkeys(first) if name in there]
        return [*known, *(case for case in meeting if case not in known)]


def _defined(lines: Sequence[str], number: int) -> str:
    """Return the name that the statement on a line defines: a variable, a field, or a variant of the table."""
    for line in reversed(lines[:number]):
        if match := re.match(r"""\s*(?:Variant\()?\s*name="(\w+)",""", line):
            return match[1]
        if match := re.match(r"(?:    )?([A-Za-z_]\w*)(?:,\s*\w+)*\s*(?::[^=]+)?= ", line):
            return match[1]
    return ""


def _spread(cases: Sequence[Case], *, turns: int | None = None) -> list[Case]:
    """Return the cases so that one of each function comes first, then another of each, and unit tests last.

    In each turn those of other parameters than before come first, then the quick ones.
    """
    turn: dict[str, int] = defaultdict(int)
    keyed = []
    for case in sorted(cases, key=lambda case: _mixed(case.id)):
        if turns is None or turn[case.function] < turns:
            keyed.append(((case.is_unit_test, turn[case.function], case.seconds, case.id), case))
        turn[case.function] += 1
    return [case for _, case in sorted(keyed, key=lambda entry: entry[0])]


def _mixed(name: str) -> int:
    """Return a number that scatters the parameters of a function, and is the same in each run."""
    number = 0
    for byte in name.encode():
        number = (number * 31 + byte) & 0xFFFFFFFF
    return number * 0x9E3779B1 & 0xFFFFFFFF


def from_answers(
    answers: Iterable[Mapping[str, Any]],
    sources: Mapping[str, frozenset[str]],
    model: Mapping[str, Sequence[str]],
) -> Reach:
    """Return the reach that runs of the plugin `inside` wrote down; a case that did not pass is left out."""
    cases = []
    for answer in answers:
        for name, case in answer["cases"].items():
            if case["outcome"] == "passed":
                lines = {file: frozenset(found) for file, found in answer["lines"].get(name, {}).items()}
                cases.append(Case(id=name, seconds=case["seconds"], variants=frozenset(case["variants"]), lines=lines))
    return Reach(cases=tuple(cases), sources=sources, model=model)


def sources_of(variants: Mapping[str, str], texts: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return the variants by the files that they are compiled from; `variants` by name, `texts` by file name."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, source in variants.items():
        left, seen = [source], set[str]()
        while left:
            file = left.pop()
            if file in seen or file not in texts:
                continue
            seen.add(file)
            left += re.findall(r'^#include "([^"]+)"', texts[file], re.MULTILINE)
        for file in seen:
            found[f"bpf/{file}"].add(name)
    return {file: frozenset(names) for file, names in found.items()}
