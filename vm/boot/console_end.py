# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The end of a VM's console: its last line, and a panic. And what QEMU itself complains of, in one line."""

from __future__ import annotations

import re
import threading

from vm.report import console

_KEPT = 20_000  # characters: a panic with its trace, not a whole boot with debugging
_LONGEST = 70  # characters of a line that are shown beside a kernel's name

_STAMP = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ?")
_REGISTERS = re.compile(r"^[A-Z][A-Z0-9]{1,4} ?=|^extra data\[|^Code=")


class ConsoleEnd:
    """The end of one VM's console; safe to use from any thread."""

    def __init__(self) -> None:
        self._text = ""
        self._count = 0
        self._lock = threading.Lock()

    def add(self, part: bytes) -> None:
        """Add a part of the console."""
        with self._lock:
            self._count += len(part)
            self._text = (self._text + part.decode(errors="replace").replace("\r", ""))[-_KEPT:]

    @property
    def count(self) -> int:
        """Return the number of bytes so far."""
        return self._count

    @property
    def text(self) -> str:
        """Return the console's text, or its end."""
        with self._lock:
            return self._text

    @property
    def line(self) -> str:
        """Return the last line that is not empty, without its time stamp, short and printable."""
        for line in reversed(self.text.splitlines()):
            if text := _printable(_STAMP.sub("", line)):
                return text
        return ""

    @property
    def panic(self) -> str:
        """Return the panic that ended the kernel, "" if there was none."""
        found = console.last_panic(self.text)
        return f"Kernel panic - {found.reason}" if found else ""


def complaint(output: bytes | bytearray) -> str:
    """Return QEMU's error output in one line.

    The registers that it prints with an error are left out, and its warnings if there is anything graver.
    """
    lines = [_printable(line, longest=200) for line in output.decode(errors="replace").splitlines()]
    useful = [line for line in lines if line and not _REGISTERS.match(line)]
    return "; ".join(([line for line in useful if ": warning: " not in line] or useful)[:3])


def _printable(line: str, *, longest: int = _LONGEST) -> str:
    text = "".join(character if character.isprintable() else " " for character in line).strip()
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
