# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Put the faults into the text of a kernel's files, dead until a parameter names one. Pure.

What a fault replaces stays beside it: an expression becomes `(FAULT(7) ? (wrong) : (right))`, a statement
`{ if (FAULT(7)) { wrong } else { right } }`. Faults of the same text, or of a part of another's, nest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .table import Edit, Fault

PARAMETER = "reuseport_fault"
REACHED = f"{PARAMETER}_reached"
"""The parameter that lists the faults whose code ran since something was written to it."""
HEADER = f"include/net/{PARAMETER}.h"
DEFINITION = "net/core/sock_reuseport.c"

HEADER_TEXT = f"""\
/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _{PARAMETER.upper()}_H
#define _{PARAMETER.upper()}_H

#include <linux/bitops.h>
#include <linux/compiler.h>

extern unsigned int {PARAMETER};
extern unsigned long {REACHED}[];

static __always_inline bool FAULT(unsigned int number)
{{
	if (!test_bit(number, {REACHED}))
		set_bit(number, {REACHED});
	return unlikely(READ_ONCE({PARAMETER}) == number);
}}

#endif
"""

_ROOM = 1024  # for numbers of faults

_DEFINED = f"""
#include <linux/bitmap.h>
#include <linux/moduleparam.h>

unsigned int {PARAMETER};
EXPORT_SYMBOL_GPL({PARAMETER});
core_param({PARAMETER}, {PARAMETER}, uint, 0644);

DECLARE_BITMAP({REACHED}, {_ROOM});
EXPORT_SYMBOL_GPL({REACHED});

static int {REACHED}_set(const char *text, const struct kernel_param *param)
{{
	bitmap_zero({REACHED}, {_ROOM});
	return 0;
}}

static int {REACHED}_get(char *page, const struct kernel_param *param)
{{
	return bitmap_print_to_pagebuf(true, page, {REACHED}, {_ROOM});
}}

static const struct kernel_param_ops {REACHED}_ops = {{
	.set = {REACHED}_set,
	.get = {REACHED}_get,
}};

__module_param_call("", {REACHED}, &{REACHED}_ops, NULL, 0644, -1, 0);
"""


class PlantingError(Exception):
    """A fault cannot be planted; the message says why."""


@dataclass(frozen=True)
class _Span:
    """A stretch of a file's text that faults replace."""

    start: int
    end: int
    wrong: tuple[tuple[int, Edit], ...]  # with the numbers of their faults
    inside: tuple[_Span, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A file, or a tree, with the faults planted into it."""

    texts: Mapping[str, str]  # by the file's path in the tree
    faults: tuple[Fault, ...]  # that are in them
    refused: Mapping[str, str]  # why, by the fault's name


def plant(texts: Mapping[str, str], faults: Sequence[Fault]) -> Planted:
    """Plant `faults` into the `texts` of their files; a fault that cannot be planted is named and left out whole."""
    spans: dict[str, tuple[_Span, ...]] = {}
    there: list[Fault] = []
    refused: dict[str, str] = {}
    for fault in faults:
        try:
            spans |= _spans_with(spans, texts, fault)
        except PlantingError as error:
            refused[fault.name] = str(error)
        else:
            there.append(fault)
    planted = {HEADER: HEADER_TEXT}
    for file in dict.fromkeys(edit.file for fault in faults for edit in fault.edits):
        if file in texts:
            planted[file] = _include(_apply(texts[file], 0, len(texts[file]), spans.get(file, ())))
    if DEFINITION not in planted and DEFINITION in texts:
        planted[DEFINITION] = texts[DEFINITION]
    if DEFINITION in planted:
        planted[DEFINITION] += _DEFINED
    return Planted(texts=planted, faults=tuple(there), refused=refused)


def _spans_with(
    spans: Mapping[str, tuple[_Span, ...]], texts: Mapping[str, str], fault: Fault
) -> dict[str, tuple[_Span, ...]]:
    """Return the spans of the files that `fault` edits, its own among them. Raises PlantingError."""
    if fault.number >= _ROOM:
        raise PlantingError(f"there is room for the faults 1 to {_ROOM - 1} alone")
    changed: dict[str, tuple[_Span, ...]] = {}
    for edit in fault.edits:
        if edit.file not in texts:
            raise PlantingError(f"the tree has no {edit.file}")
        start, end = _locate(texts[edit.file], edit)
        before = changed.get(edit.file, spans.get(edit.file, ()))
        changed[edit.file] = _added(before, _Span(start, end, ((fault.number, edit),)))
    return changed


def find_function(text: str, name: str) -> tuple[int, int]:
    """Return where the definition of a function begins and ends in a C file's text. Raises PlantingError."""
    found = []
    for match in re.finditer(rf"^(?:[A-Za-z_][^\n;{{}}]*[\s*(])?{re.escape(name)}[(,]", text, re.MULTILINE):
        opening = re.compile(r"[;{]").search(text, match.end())
        if opening and opening[0] == "{" and (closing := text.find("\n}", opening.end())) >= 0:
            found.append((match.start(), closing + 2))
    if len(found) != 1:
        raise PlantingError(f"the file has {len(found)} functions {name}")
    return found[0]


def _locate(text: str, edit: Edit) -> tuple[int, int]:
    start, end = find_function(text, edit.function)
    matches = list(_pattern(edit).finditer(text, start, end))
    if len(matches) != 1:
        raise PlantingError(f"{edit.function} has its text {len(matches)} times, and not once: {edit.old}")
    return matches[0].span("part" if edit.part else 0)


def _pattern(edit: Edit) -> re.Pattern[str]:
    before, part, after = edit.old.partition(edit.part) if edit.part else (edit.old, "", "")
    return re.compile(_spaced(before) + (f"(?P<part>{_spaced(part)})" if part else "") + _spaced(after))


def _spaced(text: str) -> str:
    """Return the expression for `text` in which any white space is any other."""
    return r"\s+".join(re.escape(word) for word in re.split(r"\s+", text))


def _added(spans: tuple[_Span, ...], new: _Span) -> tuple[_Span, ...]:
    """Return `spans` with `new`, below the one that it is inside of, above those that are inside of it."""
    for place, span in enumerate(spans):
        if (span.start, span.end) == (new.start, new.end):
            changed = replace(span, wrong=(*span.wrong, *new.wrong))
        elif span.start <= new.start and new.end <= span.end:
            changed = replace(span, inside=_added(span.inside, new))
        else:
            continue
        return (*spans[:place], changed, *spans[place + 1 :])
    inside = tuple(span for span in spans if new.start <= span.start and span.end <= new.end)
    beside = tuple(span for span in spans if span not in inside)
    if across := [span for span in beside if span.start < new.end and new.start < span.end]:
        raise PlantingError(f"its text begins or ends within that of another fault: {across[0].wrong[0][1].replaced}")
    return (*beside, replace(new, inside=inside))


def _apply(text: str, start: int, end: int, spans: Sequence[_Span]) -> str:
    parts, at = [], start
    for span in sorted(spans, key=lambda span: span.start):
        right = _apply(text, span.start, span.end, span.inside)
        for number, edit in span.wrong:
            right = _switched(number, edit, right)
        parts += [text[at : span.start], right]
        at = span.end
    return "".join([*parts, text[at:end]])


def _switched(number: int, edit: Edit, right: str) -> str:
    switch = f"FAULT({number})"
    replaced = edit.replaced.rstrip()
    if replaced.endswith((";", "}")):
        return f"{{ if ({switch}) {{ {edit.new} }} else {{ {right} }} }}"
    if match := re.fullmatch(r"if \((.*)\)", replaced, re.DOTALL):
        wrong = re.fullmatch(r"if \((.*)\)", edit.new, re.DOTALL)
        if wrong is None:
            raise PlantingError(f"in the place of {match[0]} stands {edit.new}")
        return f"if ({switch} ? !!({wrong[1]}) : !!({right.strip()[4:-1]}))"
    return f"({switch} ? ({edit.new}) : ({right}))"


def _include(text: str) -> str:
    """Include the header before anything else that a file includes."""
    first = re.search(r"^#\s*include", text, re.MULTILINE)
    at = first.start() if first else 0
    return f"{text[:at]}#include <net/{PARAMETER}.h>\n{text[at:]}"
