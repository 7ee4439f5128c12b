# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Assemble classic BPF from the language of the kernel's bpf_asm (Documentation/networking/filter.rst). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

Instruction = tuple[int, int, int, int]
"""code, jt, jf, k of `struct sock_filter` (include/uapi/linux/filter.h)."""


class ClassicTextError(ValueError):
    """A text that is no classic BPF program; the message says where and why."""


_EXTENSIONS = {
    "proto": 0, "type": 4, "ifidx": 8, "nla": 12, "nlan": 16, "mark": 20, "queue": 24, "hatype": 28, "rxhash": 32,
    "cpu": 36, "vlan_tci": 44, "vlan_avail": 48, "vlan_pr": 48, "poff": 52, "rand": 56, "vlan_tpid": 60,
}  # fmt: skip
"""SKF_AD_* (include/uapi/linux/filter.h): what a load from SKF_AD_OFF and these offsets reads."""
_EXTENSION_AREA = -0x1000  # SKF_AD_OFF

_NUMBER = r"-?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)"
_LABEL = r"[A-Za-z_]\w*"
_ADDRESSING = {
    "register": re.compile(r"%?x"),
    "accumulator": re.compile(r"%?a"),
    "absolute": re.compile(rf"\[\s*({_NUMBER})\s*\]"),
    "indirect": re.compile(rf"\[\s*%?x\s*(?:\+\s*({_NUMBER})\s*)?\]"),
    "memory": re.compile(rf"M\[\s*({_NUMBER})\s*\]"),
    "constant": re.compile(rf"#({_NUMBER})"),
    "header": re.compile(rf"4\s*\*\s*\(\s*\[\s*({_NUMBER})\s*\]\s*&\s*0x[fF]\s*\)"),
    "length": re.compile(r"#?(?:len|pktlen)"),
    "extension": re.compile(rf"#?({'|'.join(_EXTENSIONS)})"),
}
"""The operands of an instruction, by the manual's addressing modes; the first that matches whole is meant."""

_ALU = {"add": 0x00, "sub": 0x10, "mul": 0x20, "div": 0x30, "or": 0x40, "and": 0x50, "lsh": 0x60, "rsh": 0x70,
        "mod": 0x90, "xor": 0xA0}  # fmt: skip
_FORMS: dict[tuple[str, str], int] = {
    ("ld", "absolute"): 0x20, ("ld", "indirect"): 0x40, ("ld", "memory"): 0x60, ("ld", "constant"): 0x00,
    ("ld", "length"): 0x80, ("ld", "extension"): 0x20,
    ("ldi", "constant"): 0x00,
    ("ldh", "absolute"): 0x28, ("ldh", "indirect"): 0x48, ("ldh", "extension"): 0x28,
    ("ldb", "absolute"): 0x30, ("ldb", "indirect"): 0x50, ("ldb", "extension"): 0x30,
    ("ldx", "memory"): 0x61, ("ldx", "constant"): 0x01, ("ldx", "length"): 0x81, ("ldx", "header"): 0xB1,
    ("ldxi", "constant"): 0x01, ("ldxb", "header"): 0xB1,
    ("st", "memory"): 0x02, ("stx", "memory"): 0x03,
    ("ret", "constant"): 0x06, ("ret", "register"): 0x0E, ("ret", "accumulator"): 0x16,
    ("neg", ""): 0x84, ("tax", ""): 0x07, ("txa", ""): 0x87,
} | {
    (name, mode): 0x04 | bits | source
    for name, bits in _ALU.items()
    for mode, source in (("constant", 0), ("register", 8))
}  # fmt: skip

_JUMPS = {"jeq": (0x15, False), "jgt": (0x25, False), "jge": (0x35, False), "jset": (0x45, False),
          "jne": (0x15, True), "jneq": (0x15, True), "jle": (0x25, True), "jlt": (0x35, True)}  # fmt: skip
"""Each conditional jump's code, and whether its label is for the opposite of what the code tests."""

CODES = frozenset(_FORMS.values()) | {code | source for code, _ in _JUMPS.values() for source in (0, 8)} | {0x05}
"""Every code that the kernel knows (`chk_code_allowed()`, net/core/filter.c)."""


@dataclass(frozen=True)
class _Line:
    number: int
    place: int
    name: str
    operand: str


def assemble(text: str) -> tuple[Instruction, ...]:
    """Return a program's instructions; ClassicTextError names the line that is wrong."""
    lines, labels = _split(text)
    if not lines:
        raise ClassicTextError("there is no instruction in it")
    return tuple(_assemble_line(line, labels) for line in lines)


def _split(text: str) -> tuple[list[_Line], dict[str, int]]:
    bare = re.sub(r"/\*.*?\*/", lambda match: "\n" * match[0].count("\n"), text, flags=re.DOTALL)
    lines: list[_Line] = []
    labels: dict[str, int] = {}
    for number, line in enumerate(bare.splitlines(), 1):
        rest = line.partition(";")[0].strip()
        while found := re.match(rf"({_LABEL})\s*:\s*", rest):
            if found[1] in labels:
                raise ClassicTextError(f"line {number}: the label {found[1]} is there twice")
            labels[found[1]] = len(lines)
            rest = rest[found.end() :]
        if rest:
            name, *operand = rest.split(maxsplit=1)
            lines.append(_Line(number, len(lines), name.lower(), operand[0].strip() if operand else ""))
    return lines, labels


def _assemble_line(line: _Line, labels: dict[str, int]) -> Instruction:
    if line.name in {"jmp", "ja"}:
        return 0x05, 0, 0, _distance(line, line.operand, labels)
    if line.name in _JUMPS:
        return _jump(line, labels)
    for mode, pattern in _ADDRESSING.items():
        found = pattern.fullmatch(line.operand)
        code = _FORMS.get((line.name, mode)) if found else None
        if found and code is not None:
            return code, 0, 0, _operand(mode, found)
    if not line.operand and (line.name, "") in _FORMS:
        return _FORMS[line.name, ""], 0, 0, 0
    known = any(name == line.name for name, _ in _FORMS)
    raise ClassicTextError(
        f"line {line.number}: {line.name} takes no operand {line.operand!r}"
        if known
        else f"line {line.number}: there is no instruction {line.name!r}"
    )


def _operand(mode: str, found: re.Match[str]) -> int:
    if mode == "extension":
        return (_EXTENSION_AREA + _EXTENSIONS[found[1]]) & 0xFFFFFFFF
    return _number(found[1]) if found.re.groups and found[1] else 0


def _number(text: str) -> int:
    octal = re.fullmatch(r"-?0\d+", text)
    return int(text, 8 if octal else 0) & 0xFFFFFFFF


def _jump(line: _Line, labels: dict[str, int]) -> Instruction:
    code, opposite = _JUMPS[line.name]
    value, *targets = (part.strip() for part in line.operand.split(","))
    constant = _ADDRESSING["constant"].fullmatch(value)
    if (not constant and not _ADDRESSING["register"].fullmatch(value)) or len(targets) not in {1, 2}:
        raise ClassicTextError(
            f"line {line.number}: {line.name} takes '#number, label' or 'x, label', and may be a second label"
        )
    if opposite and len(targets) == 2:
        raise ClassicTextError(f"line {line.number}: {line.name} takes one label")
    distances = [_distance(line, target, labels) for target in targets]
    if max(distances) > 0xFF:
        raise ClassicTextError(f"line {line.number}: {line.name} jumps over {max(distances)} instructions, 255 at most")
    then, otherwise = (0, distances[0]) if opposite else (distances[0], distances[1] if len(distances) == 2 else 0)
    return code | (0 if constant else 8), then, otherwise, _number(constant[1]) if constant else 0


def _distance(line: _Line, label: str, labels: dict[str, int]) -> int:
    if label not in labels:
        raise ClassicTextError(f"line {line.number}: there is no label {label!r}")
    distance = labels[label] - line.place - 1
    if distance < 0:
        raise ClassicTextError(f"line {line.number}: {line.name} jumps back to {label}; classic BPF only jumps forward")
    return distance
