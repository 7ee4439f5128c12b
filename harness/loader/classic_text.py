# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read classic BPF programs from text: the numbers of `tcpdump -ddd` and of bpf_asm, and bpf_asm's own language. Pure.

Documentation/networking/filter.rst describes all three; `bpf_check_classic()` (net/core/filter.c) has the limits.
"""

from __future__ import annotations

import re

from harness.loader.classic_assembler import CODES, ClassicTextError, Instruction, assemble

MOST_INSTRUCTIONS = 4096
"""BPF_MAXINSNS (include/uapi/linux/bpf_common.h)."""

_WORDS_OF_MEMORY = 16  # BPF_MEMWORDS
_CLASS, _JUMP, _RETURN = 0x07, 0x05, 0x06
_JUMP_ALWAYS = 0x05
_DIVIDE_BY_CONSTANT = {0x34, 0x94}
_SHIFT_BY_CONSTANT = {0x64, 0x74}
_MEMORY = {0x60, 0x61, 0x02, 0x03}


def read_classic(text: str) -> tuple[Instruction, ...]:
    """Return the instructions (code, jt, jf, k) of a program in any of the three forms.

    Raises ClassicTextError, which names the line or the instruction, for text that is none of them and for programs
    that no kernel takes.
    """
    content = text.strip()
    if not content:
        raise ClassicTextError("the file is empty")
    if re.match(r"\d+\s*,", content):
        found = _numbers(content.rstrip(",").split(","), separator="','")
    elif re.match(r"\d+\s*\n", content + "\n"):
        found = _numbers(content.splitlines(), separator="line")
    else:
        found = assemble(text)
    _check(found)
    return found


def _numbers(parts: list[str], *, separator: str) -> tuple[Instruction, ...]:
    count, *rest = (part.split() for part in parts)
    stated = int(count[0])
    if stated != len(rest):
        raise ClassicTextError(f"it states {stated} instructions and has {len(rest)}: is it truncated?")
    found = []
    for place, words in enumerate(rest):
        if len(words) != 4 or not all(word.isdecimal() for word in words):
            raise ClassicTextError(
                f"instruction {place} is {' '.join(words)!r}, not four numbers (code jt jf k) between one {separator} "
                "and the next"
            )
        code, jt, jf, k = map(int, words)
        if code > 0xFFFF or jt > 0xFF or jf > 0xFF or k > 0xFFFFFFFF:
            raise ClassicTextError(f"instruction {place} has a number that its field cannot hold: {' '.join(words)}")
        found.append((code, jt, jf, k))
    return tuple(found)


def _check(program: tuple[Instruction, ...]) -> None:
    """Raise ClassicTextError for what `bpf_check_classic()` answers with EINVAL, by the instruction's number."""
    if len(program) > MOST_INSTRUCTIONS:
        raise ClassicTextError(f"it has {len(program)} instructions; the kernel takes {MOST_INSTRUCTIONS}")
    for place, (code, jt, jf, k) in enumerate(program):
        left = len(program) - place - 1
        shown = f"instruction {place} ({code:#04x} {jt} {jf} {k:#x})"
        if code not in CODES:
            raise ClassicTextError(f"{shown}: there is no such code")
        if code & _CLASS == _JUMP:
            furthest = k if code == _JUMP_ALWAYS else max(jt, jf)
            if furthest >= left:
                raise ClassicTextError(
                    f"{shown} jumps to {place + 1 + furthest}, and the last one is {len(program) - 1}"
                )
        elif code in _DIVIDE_BY_CONSTANT and k == 0:
            raise ClassicTextError(f"{shown} divides by zero")
        elif code in _SHIFT_BY_CONSTANT and k >= 32:
            raise ClassicTextError(f"{shown} shifts by {k} bits, and a register has 32")
        elif code in _MEMORY and k >= _WORDS_OF_MEMORY:
            raise ClassicTextError(f"{shown} uses M[{k}], and the last one is M[{_WORDS_OF_MEMORY - 1}]")
    if program[-1][0] & _CLASS != _RETURN:
        raise ClassicTextError("the last instruction is no ret")
