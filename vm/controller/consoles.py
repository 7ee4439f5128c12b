# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The console of each kernel: one file for all its VMs, written while they run."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from vm.report import publishing

if TYPE_CHECKING:
    from pathlib import Path


class Consoles:
    """The files <directory>/<kernel>/console.log; safe to use from any thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unwritten: dict[str, str] = {}
        self._lock = threading.Lock()

    def append(self, kernel: str, text: bytes) -> None:
        """Write what a console said. Where that fails, `unwritten` has the reason."""
        try:
            with self._lock, self._path(kernel).open("ab") as file:
                file.write(text)
        except OSError as error:
            self._unwritten[kernel] = str(publishing.results_error(self._directory, error))

    def unwritten(self, kernel: str) -> str:
        """Return why a part of the console is missing in the file, which may be a splat; "" if none is."""
        return self._unwritten.get(kernel, "")

    def read(self, kernel: str) -> str:
        """Return the console's text, "" if there is none."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            return self._path(kernel).read_text(encoding="utf-8", errors="replace").replace("\r", "")
        return ""

    def _path(self, kernel: str) -> Path:
        return self._directory / kernel / "console.log"
