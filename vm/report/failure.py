# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the page shows of one failed case, ready for its template."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from harness.interface.sentences import Code, SocketName, sentence
from vm.report.console import BEGIN, END
from vm.report.hexdump import hexdump

if TYPE_CHECKING:
    from pathlib import Path

    from harness.interface.steps import Step
    from vm.report.results import CaseResult, FieldEntry, KernelResult

_CONSOLE_LINES = 40
_LARGEST_CONSOLE = 32 << 20
_LONGEST_DETAIL = 30_000


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One failed case on one kernel."""

    case: CaseResult
    kernel: KernelResult
    directory: Path

    @property
    def detail(self) -> str:
        """Return the report of the failure, its middle left out where it is very long."""
        text = self.case.detail
        if len(text) <= _LONGEST_DETAIL:
            return text
        half = _LONGEST_DETAIL // 2
        left_out = f"... {len(text) - 2 * half} characters are left out: see results.json ..."
        return f"{text[:half]}\n\n{left_out}\n\n{text[-half:]}"

    @property
    def comparison(self) -> list[tuple[Markup, Markup, str]]:
        """Return expected, observed and the meaning of each part, with the words that differ marked."""
        return [(*_marked(part["expected"], part["observed"], bool(part["differs"])), part["meaning"])
                for part in self.case.parts]  # fmt: skip

    @property
    def packets(self) -> list[tuple[str, Markup, list[FieldEntry]]]:
        """Return each packet dissected, in hex with the fields that mattered marked, and those fields."""
        shown = []
        for packet in self.case.packets:
            fields = packet.get("fields", [])
            shown.append((packet["layers"].rstrip(), hexdump(bytes.fromhex(packet["data"]), fields), fields))
        return shown

    @property
    def console(self) -> str:
        """Return the last lines that the kernel wrote while the case ran; empty if there are none."""
        splats = [splat.excerpt for splat in self.kernel.splats if splat.case == self.case.id]
        if splats:
            return "\n".join(splats)
        if not self.kernel.console:
            return ""
        return excerpt(self.directory / self.kernel.console, self.case.id)


def sentence_html(step: Step) -> Markup:
    """Return the sentence for a step, with the names of sockets and of the kernel's functions set apart."""
    return Markup("").join(map(_part, sentence(step)))


def _part(part: str) -> Markup:
    match part:
        case SocketName():
            return Markup("<b>{}</b>").format(str(part))
        case Code():
            return Markup("<code>{}</code>").format(str(part))
        case _:
            return escape(part)


def excerpt(path: Path, case: str) -> str:
    """Return what a console has between a case's marks, the last lines of it."""
    lines = _lines(path)
    begin = next((at for at in range(len(lines) - 1, -1, -1) if lines[at].rstrip().endswith(f"{BEGIN}{case}")), None)
    if begin is None:
        return ""
    end = next((at for at in range(begin + 1, len(lines)) if END in lines[at]), len(lines))
    return "\n".join(lines[begin + 1 : end][-_CONSOLE_LINES:])


@lru_cache(maxsize=2)
def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > _LARGEST_CONSOLE:
            return []
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _marked(expected: str, observed: str, differs: bool) -> tuple[Markup, Markup]:
    """Return both texts, with the words that the other one lacks marked."""
    if not differs:
        return escape(expected), escape(observed)
    one, other = (re.findall(r"\w+|\W", text) for text in (expected, observed))
    sides: tuple[list[Markup], list[Markup]] = ([], [])
    for kind, a, b, c, d in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        for side, words in zip(sides, (one[a:b], other[c:d]), strict=True):
            text = "".join(words)
            side.append(escape(text) if kind == "equal" or not text else Markup("<mark>{}</mark>").format(text))
    return Markup("").join(sides[0]), Markup("").join(sides[1])
