# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Edits of a program in C, found by its tokens. Pure.

Tokens, and no parser: what programs share is in macros, and a parser sees them where they are used, or not at all. The
formatter keeps binary operators between spaces, which tells `a * b` from `*a`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .mutant import Edit

_TOKEN = re.compile(
    r"""
    (?P<comment>/\*.*?\*/|//[^\n]*)
    |(?P<directive>^[ ]*\#[^\n]*)
    |(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<number>0x[0-9a-fA-F]+|\d+)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<operator><<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[-+*/%&|^!~<>=?:;,.(){}\[\]\\])
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)

_BETWEEN_SPACES: dict[str, dict[str, tuple[str, ...]]] = {
    "comparison": {"==": ("!=",), "!=": ("==",), "<": ("<=", ">"), ">": (">=", "<"), "<=": ("<",), ">=": (">",)},
    "arithmetic": {
        **{"+": ("-",), "-": ("+",), "*": ("+",), "%": ("/",), "<<": (">>",), ">>": ("<<",)},
        **{"&": ("|",), "|": ("&",), "^": ("|",), "^=": ("|=",), "*=": ("+=",)},
    },
    "logic": {"&&": ("||",), "||": ("&&",)},
}
_CONSTANTS = {
    **{"PASS": "DROP_MISC", "DROP_MISC": "PASS", "SK_PASS": "SK_DROP", "SK_DROP": "SK_PASS"},
    **{"DROP_ERR_INNER_MAP": "DROP_MISC", "DROP_ERR_SKB_DATA": "DROP_MISC", "PASS_UNCOUNTED": "PASS"},
    **{"DROP_ERR_SK_SELECT_REUSEPORT": "DROP_MISC", "PASS_ERR_SK_SELECT_REUSEPORT": "PASS", "NOT_YET": "PASS"},
    **{"IPPROTO_UDP": "IPPROTO_TCP", "IPPROTO_TCP": "IPPROTO_UDP", "ETH_P_IP": "ETH_P_IPV6"},
    **{"BPF_HDR_START_NET": "BPF_HDR_START_MAC", "NOBODY": "0", "UNDECIDED": "DECIDE(PASS)"},
    **{"TABLE_SIZE": "(TABLE_SIZE - 1)", "MOST_NODES": "(MOST_NODES - 1)", "QUIC_CID_LENGTH": "(QUIC_CID_LENGTH - 1)"},
}
_FIELDS = {
    **{"saddr": "daddr", "source": "dest", "dest": "source", "len": "hash", "hash": "len"},
    **{"eth_protocol": "ip_protocol", "ip_protocol": "eth_protocol", "bind_inany": "ip_protocol"},
    **{"data_end": "data"},
}
_ALONE = {"!": ("", "logic"), "++": ("--", "arithmetic")}
_READ_FROM = ("ctx", "tcp", "udp", "iphdr", "ipv6hdr")
_TYPES = {"struct", "enum", "void", "int", "long", "char", "bool", "static", "const", "unsigned"}
_NO_STATEMENT = {"asm", "else", "for", "if", "while", "do", "return", "SELECT_PROGRAM", "SELECT_BY_KEY"}


@dataclass(frozen=True, kw_only=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int

    @property
    def is_value(self) -> bool:
        return self.kind in {"number", "word"} or self.text in {")", "]"}


def edits_of(content: bytes) -> list[Edit]:
    """Return every edit of a source; it is ASCII, so that bytes are characters."""
    text = content.decode("ascii")
    tokens = _tokens(text)
    edits: list[Edit] = []
    for place, token in enumerate(tokens):
        edits += _of_token(text, tokens, place, token)
    return [*edits, *_of_statements(text, tokens)]


def _tokens(text: str) -> list[_Token]:
    """Return the tokens of code: no comments, no strings, no directives but what a macro is defined as, no maps."""
    tokens = []
    at = 0
    while match := _TOKEN.search(text, at):
        at = match.end()
        kind = match.lastgroup or ""
        if kind in {"comment", "string"}:
            continue
        if kind == "directive":
            # What follows the head of a macro is code: its tokens are taken from there on.
            head = re.compile(r"\s*#\s*define\s+\w+(\([^)]*\))?").match(match[0])
            at = match.start() + head.end() if head else at
            continue
        tokens.append(_Token(kind=kind, text=match[0], start=match.start(), end=match.end()))
    maps = [
        match.span() for match in re.finditer(r'^struct \{\n(?:\t.*\n)*\} \w+ SEC\("\.maps"\);', text, re.MULTILINE)
    ]
    return [token for token in tokens if not any(start <= token.start < end for start, end in maps)]


def _of_token(text: str, tokens: list[_Token], place: int, token: _Token) -> list[Edit]:
    before = tokens[place - 1] if place else None
    after = tokens[place + 1] if place + 1 < len(tokens) else None
    start, end = token.start, token.end

    def edit(new: str, operator: str, until: int = end) -> Edit:
        return Edit(start=start, end=until, new=new, operator=operator)

    if token.kind == "number":
        return [edit(_other_number(token.text), "constant")]
    if token.kind == "operator":
        spaced = text[start - 1 : start].isspace() and text[end : end + 1].isspace()
        if spaced and before is not None and before.is_value:
            tables = _BETWEEN_SPACES.items()
            return [edit(new, operator) for operator, table in tables for new in table.get(token.text, ())]
        return [edit(*_ALONE[token.text])] if token.text in _ALONE else []
    if token.text in {"if", "sizeof"} and after is not None and after.text == "(":
        close = _closing(tokens, place + 1)
        until = tokens[close].end
        if token.text == "sizeof":
            return [edit(f"({text[start:until]} + 1)", "offset", until)]
        condition = text[after.start : until]
        turned = _turned_by_its_operator(tokens[place + 2 : close])
        return [] if turned else [edit(f"if (!{condition})", "swapped branch", until)]
    if token.text in {"bpf_ntohs", "bpf_htons"}:
        return [edit("", "byte order")]
    return [edit(*other) for other in _other_words(tokens, place)]


def _other_words(tokens: list[_Token], place: int) -> list[tuple[str, str]]:
    """Return what may stand in the place of a word, each with its operator."""
    if not 1 < place < len(tokens) - 1:
        return []
    word, earlier, before, after = (tokens[at].text for at in (place, place - 2, place - 1, place + 1))
    if word in _CONSTANTS and not (before in {"{", ","} and _is_declared(tokens, place)):
        return [(_CONSTANTS[word], "constant")]
    if word in _FIELDS and before in {"->", ","} and earlier in _READ_FROM:
        return [(_FIELDS[word], "wrong field")]
    if word == "payload" and before == "->" and after != "=":
        return [("payload + 1", "offset")]
    return []


def _turned_by_its_operator(condition: list[_Token]) -> bool:
    """Return whether an edit of its one operator turns a condition round."""
    operators = [token.text for token in condition]
    joined = {"&&", "||"} & set(operators)
    return not joined and (operators[0] == "!" or bool({"==", "!=", "<", ">", "<=", ">="} & set(operators)))


def _is_declared(tokens: list[_Token], place: int) -> bool:
    """Return whether a name stands in the list of an enum, which begins with a brace behind `enum NAME`."""
    while place and tokens[place].text not in {"{", ";", "(", "}"}:
        place -= 1
    return place > 1 and tokens[place].text == "{" and tokens[place - 2].text == "enum"


def _other_number(text: str) -> str:
    number = int(text, 0)
    other = number - 1 if number == 0xFFFFFFFF else number + 1
    return hex(other) if text.startswith("0x") else str(other)


def _closing(tokens: list[_Token], opening: int) -> int:
    """Return the place of the parenthesis that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[place].text, 0)
        if not depth:
            return place
    raise ValueError("a parenthesis is not closed")


def _of_statements(text: str, tokens: list[_Token]) -> list[Edit]:
    """Return an edit for each statement that can go: an expression, a `break`, and a `return` that a branch guards."""
    edits = []
    depth = 0
    for place, token in enumerate(tokens):
        depth += {"{": 1, "}": -1}.get(token.text, 0)
        if not place or token.text in {"}", ";"} or not (depth and _begins(tokens, place)):
            continue
        end = next((later for later in range(place, len(tokens)) if tokens[later].text in {";", "{"}), place)
        statement = tokens[place : end + 1]
        if statement[-1].text != ";" or "\\" in text[token.start : statement[-1].end]:
            continue
        if token.text == "return":
            if tokens[place - 1].text != ")":
                continue
        elif token.text in _NO_STATEMENT or not _is_expression(statement):
            continue
        lines = "\n" * text.count("\n", token.start, statement[-1].end)
        new = f"{{{lines} }}"
        edits.append(Edit(start=token.start, end=statement[-1].end, new=new, operator="deleted statement"))
    return edits


def _begins(tokens: list[_Token], place: int) -> bool:
    before = tokens[place - 1].text
    if before in {";", "{", "}", "else"} or (before == "\\" and tokens[place - 2].text in {";", "{", "}"}):
        return True
    # Behind the parenthesis of a branch or a loop, and not of a cast or a call.
    if before != ")":
        return False
    depth = 0
    for earlier in range(place - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(tokens[earlier].text, 0)
        if not depth:
            return tokens[earlier - 1].text in {"if", "for", "while"}
    return False


def _is_expression(statement: list[_Token]) -> bool:
    first = statement[0].text
    if first == "break":
        return True
    if first in _TYPES or re.fullmatch(r"__[us]\d+", first):
        return False
    if first == "(" and statement[1].text == "void" and len(statement) == 5:
        return False  # only says that a parameter is not used
    words = {token.text for token in statement}
    return bool(words & {"=", "(", "*=", "^=", "++"}) and statement[0].kind in {"word", "operator"}
