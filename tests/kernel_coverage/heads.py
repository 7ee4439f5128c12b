# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The branches of a function that a line stands in, by their heads: "if (id < 0) {", "case TCP_TW_SYN: {". Pure.

They tell one `goto out;` of a function from another, in this release of the kernel and in the next.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TAB = 8
_GOES_ON = (",", "(", "&&", "||", "=", "+", "|", "&", "?")
"""What a line ends in whose statement goes on in the next."""
_NO_HEADS = {"", "{", "}"}


def without_comments(text: str) -> list[str]:
    """Return the lines of a C file, each in its place, without the comments."""
    bare = re.sub(r"/\*.*?\*/|//[^\n]*", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)
    return bare.splitlines()


def heads(lines: Sequence[str], number: int) -> tuple[str, ...]:
    """Return the heads of the branches that a line of a file in the kernel's style is in, the innermost first.

    `lines` have no comments. A head is what stands above, less far to the right: the whole condition, if it has several
    lines. A label is the head of all that follows it in the function.
    """
    found = []
    at, depth = number - 1, _depth(lines[number - 1])
    while depth and at and lines[at - 1] != "{":
        at -= 1
        if lines[at].strip() in _NO_HEADS or lines[at].startswith("#"):
            continue
        while lines[at - 1].rstrip().endswith(_GOES_ON):
            at -= 1
        if _depth(lines[at]) < depth:
            depth = _depth(lines[at])
            found.append(_statement(lines, at))
    return tuple(found)


def _depth(line: str) -> int:
    expanded = line.expandtabs(_TAB)
    return len(expanded) - len(expanded.lstrip())


def _statement(lines: Sequence[str], at: int) -> str:
    """Return what begins in line `at`, to the line where its parentheses are balanced, with single spaces."""
    text = lines[at]
    while text.count("(") > text.count(")") and at + 1 < len(lines):
        at += 1
        text += " " + lines[at]
    return " ".join(text.split())
