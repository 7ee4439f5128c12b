# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Put the faults into the text of a kernel's files, dead until a parameter names one. Pure.

What a fault replaces stays beside it: an expression becomes `(FAULT(7) ? (wrong) : (right))`, a statement
`{ if (FAULT(7)) { wrong } else { right } }`. Faults of the same text, or of a part of another's, nest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .table import Fault

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


@dataclass
class _Edit:
    start: int
    end: int
    faults: list[Fault]
    inside: list[_Edit] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A file, or a tree, with the faults planted into it."""

    texts: Mapping[str, str]  # by the file's path in the tree
    faults: tuple[Fault, ...]  # that are in them
    refused: Mapping[str, str]  # why, by the fault's name


def plant(texts: Mapping[str, str], faults: Sequence[Fault]) -> Planted:
    """Plant `faults` into the `texts` of their files; a fault that cannot be planted is named and left out."""
    planted: dict[str, str] = {HEADER: HEADER_TEXT}
    there: list[Fault] = []
    refused: dict[str, str] = {}
    for file in dict.fromkeys(fault.file for fault in faults):
        own = [fault for fault in faults if fault.file == file]
        if file not in texts:
            refused |= {fault.name: f"the tree has no {file}" for fault in own}
            continue
        edits: list[_Edit] = []
        for fault in own:
            try:
                if fault.number >= _ROOM:
                    raise PlantingError(f"there is room for the faults 1 to {_ROOM - 1} alone")
                _add(edits, _locate(texts[file], fault))
            except PlantingError as error:
                refused[fault.name] = str(error)
            else:
                there.append(fault)
        planted[file] = _include(_apply(texts[file], 0, len(texts[file]), edits))
    if DEFINITION not in planted and DEFINITION in texts:
        planted[DEFINITION] = texts[DEFINITION]
    if DEFINITION in planted:
        planted[DEFINITION] += _DEFINED
    return Planted(texts=planted, faults=tuple(there), refused=refused)


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


def _locate(text: str, fault: Fault) -> _Edit:
    start, end = find_function(text, fault.function)
    matches = list(_pattern(fault).finditer(text, start, end))
    if len(matches) != 1:
        raise PlantingError(f"{fault.function} has its text {len(matches)} times, and not once: {fault.old}")
    group = "part" if fault.part else 0
    return _Edit(*matches[0].span(group), [fault])


def _pattern(fault: Fault) -> re.Pattern[str]:
    before, part, after = fault.old.partition(fault.part) if fault.part else (fault.old, "", "")
    return re.compile(_spaced(before) + (f"(?P<part>{_spaced(part)})" if part else "") + _spaced(after))


def _spaced(text: str) -> str:
    """Return the expression for `text` in which any white space is any other."""
    return r"\s+".join(re.escape(word) for word in re.split(r"\s+", text))


def _add(edits: list[_Edit], new: _Edit) -> None:
    """Put `new` among `edits`, below the one that it is inside of, above those that are inside of it."""
    for edit in edits:
        if (edit.start, edit.end) == (new.start, new.end):
            edit.faults += new.faults
            return
        if edit.start <= new.start and new.end <= edit.end:
            _add(edit.inside, new)
            return
    inside = [edit for edit in edits if new.start <= edit.start and edit.end <= new.end]
    if across := [edit for edit in edits if edit not in inside and edit.start < new.end and new.start < edit.end]:
        raise PlantingError(f"its text begins or ends within that of {across[0].faults[0].name}")
    for edit in inside:
        edits.remove(edit)
    new.inside = inside
    edits.append(new)


def _apply(text: str, start: int, end: int, edits: Sequence[_Edit]) -> str:
    parts, at = [], start
    for edit in sorted(edits, key=lambda edit: edit.start):
        right = _apply(text, edit.start, edit.end, edit.inside)
        for fault in edit.faults:
            right = _switched(fault, right)
        parts += [text[at : edit.start], right]
        at = edit.end
    return "".join([*parts, text[at:end]])


def _switched(fault: Fault, right: str) -> str:
    switch = f"FAULT({fault.number})"
    replaced = fault.replaced.rstrip()
    if replaced.endswith((";", "}")):
        return f"{{ if ({switch}) {{ {fault.new} }} else {{ {right} }} }}"
    if match := re.fullmatch(r"if \((.*)\)", replaced, re.DOTALL):
        wrong = re.fullmatch(r"if \((.*)\)", fault.new, re.DOTALL)
        if wrong is None:
            raise PlantingError(f"{fault.name}: in the place of {match[0]} stands {fault.new}")
        return f"if ({switch} ? !!({wrong[1]}) : !!({right.strip()[4:-1]}))"
    return f"({switch} ? ({fault.new}) : ({right}))"


def _include(text: str) -> str:
    """Include the header before anything else that a file includes."""
    first = re.search(r"^#\s*include", text, re.MULTILINE)
    at = first.start() if first else 0
    return f"{text[:at]}#include <net/{PARAMETER}.h>\n{text[at:]}"
