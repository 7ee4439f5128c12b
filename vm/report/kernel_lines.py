# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Lines and branches of a kernel that ran, by function. Pure.

A compiler that optimises puts a function into its callers, so what gcov says of functions is not by those of the
source: here a line belongs to the function around it. A line that stands in several callers ran if one of them ran it,
and its branches are counted in each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_NAME = re.compile(r"(?:^BPF_CALL_\d\((\w+)|(\w+)\s*\()")
_NO_FUNCTION = re.compile(r"^(?:#|\}|\{|/|\*|struct\s+\w+\s*\{|enum\b.*\{|union\b.*\{|typedef\b)")


@dataclass(frozen=True, kw_only=True)
class Share:
    """So many of them ran."""

    hit: int
    of: int

    def __add__(self, other: Share) -> Share:
        return Share(hit=self.hit + other.hit, of=self.of + other.of)

    def __str__(self) -> str:
        return f"{self.hit / self.of:.1%} of {self.of:,}" if self.of else "none"


NONE = Share(hit=0, of=0)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A function's place in its file: the numbers of its first and its last line."""

    name: str
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Function:
    """What ran of a function."""

    file: str
    name: str
    lines: Share
    branches: Share
    missed: tuple[int, ...]
    """Lines that did not run."""
    half: tuple[int, ...]
    """Lines that ran, of which a branch did not."""


def spans(text: str) -> list[Span]:
    """Return the functions of a C file in the kernel's style: the body's braces stand in the first column."""
    found = []
    lines = text.splitlines()
    head, name = 0, ""
    for number, line in enumerate(lines, 1):
        if line == "{" and name:
            end = next((at for at in range(number + 1, len(lines) + 1) if lines[at - 1].startswith("}")), len(lines))
            found.append(Span(name=name, first=head, last=end))
            name = ""
        elif line.rstrip().endswith(";") or _NO_FUNCTION.match(line):
            name = ""
        elif line and not line[0].isspace() and (match := _NAME.search(line)):
            head, name = number, match[1] or match[2]
    return found


def by_function(coverage: Mapping[str, Any], texts: Mapping[str, str], wanted: Mapping[str, str]) -> list[Function]:
    """Return what ran of the functions of the files in `texts`, in their order.

    `coverage` is gcovr's JSON; `texts` has the sources by their paths below the tree, and `wanted` for each the regular
    expression of which a function's name has to contain a match.
    """
    counted = {entry["file"]: entry["lines"] for entry in coverage["files"]}
    found = []
    for file, text in texts.items():
        lines = _merged(counted.get(file, ()))
        for span in spans(text):
            own = {number: line for number, line in lines.items() if span.first <= number <= span.last}
            if own and re.search(wanted[file], span.name):
                found.append(_function(file, span.name, own))
    return found


@dataclass
class _Line:
    hit: bool
    branches: list[bool]


def _merged(entries: Sequence[Mapping[str, Any]]) -> dict[int, _Line]:
    lines: dict[int, _Line] = {}
    for entry in entries:
        line = lines.setdefault(entry["line_number"], _Line(hit=False, branches=[]))
        line.hit = line.hit or entry["count"] > 0
        line.branches += [branch["count"] > 0 for branch in entry.get("branches", ())]
    return lines


def _function(file: str, name: str, lines: Mapping[int, _Line]) -> Function:
    branches = [ran for line in lines.values() for ran in line.branches]
    return Function(
        file=file,
        name=name,
        lines=Share(hit=sum(line.hit for line in lines.values()), of=len(lines)),
        branches=Share(hit=sum(branches), of=len(branches)),
        missed=tuple(sorted(number for number, line in lines.items() if not line.hit)),
        half=tuple(sorted(number for number, line in lines.items() if line.hit and not all(line.branches))),
    )


def total(functions: Iterable[Function]) -> tuple[Share, Share]:
    """Return how many lines and how many branches ran of some functions together."""
    lines, branches = NONE, NONE
    for function in functions:
        lines, branches = lines + function.lines, branches + function.branches
    return lines, branches


def by_file(functions: Sequence[Function]) -> dict[str, tuple[Share, Share]]:
    """Return how many lines and branches ran of each file's functions."""
    files = dict.fromkeys(function.file for function in functions)
    return {file: total(one for one in functions if one.file == file) for file in files}


def summary(functions: Sequence[Function]) -> list[str]:
    """Return lines that say it, a file each, and all together last."""
    rows = [*by_file(functions).items(), ("together", total(functions))]
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  lines {lines!s:>16}  branches {branches!s:>16}" for name, (lines, branches) in rows]


def report(functions: Sequence[Function]) -> str:
    """Return the text of all of it: by file, then by function, with the numbers of the lines that did not run."""
    width = max((len(one.name) for one in functions), default=0)
    parts = ["\n".join(summary(functions))]
    for file in by_file(functions):
        rows = [
            f"  {one.name:{width}}  lines {one.lines!s:>14}  branches {one.branches!s:>14}"
            + (f"  not reached: {ranges(one.missed)}" if one.missed else "")
            + (f"  in part: {ranges(one.half)}" if one.half else "")
            for one in functions
            if one.file == file
        ]
        parts.append("\n".join([file, *rows]))
    return "\n\n".join(parts) + "\n"


def ranges(numbers: Sequence[int]) -> str:
    """Return numbers in short: "3, 7-9"."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in found)
