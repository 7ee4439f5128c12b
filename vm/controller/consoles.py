# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The consoles of each kernel: a file for each of its VMs, written while they run, and one of all in the end."""

from __future__ import annotations

import contextlib
import shutil
import threading
from typing import TYPE_CHECKING

from vm.report import publishing
from vm.report.console import NEW_VM

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vm.controller.plan import Vm


class Consoles:
    """The files <directory>/<kernel>/console.log; safe to use from any thread.

    A VM that runs beside the first has console-2.log and so on, until `merge`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unwritten: dict[str, str] = {}
        self._lock = threading.Lock()

    def append(self, vm: Vm, text: bytes) -> None:
        """Write what a console said. Where that fails, `unwritten` has the reason."""
        try:
            with self._lock, self._path(vm).open("ab") as file:
                file.write(text)
        except OSError as error:
            self._unwritten[vm.kernel] = str(publishing.results_error(self._directory, error))

    def unwritten(self, kernel: str) -> str:
        """Return why a part of the console is missing in the file, which may be a splat; "" if none is."""
        return self._unwritten.get(kernel, "")

    def read(self, vm: Vm) -> str:
        """Return the console's text, "" if there is none."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            return self._path(vm).read_text(encoding="utf-8", errors="replace").replace("\r", "")
        return ""

    def merge(self, first: Vm, others: Iterable[Vm]) -> None:
        """Put the consoles of a kernel's other VMs, which have ended, behind that of its first."""
        for vm in others:
            path = self._path(vm)
            try:
                with path.open("rb") as said, self._path(first).open("ab") as file:
                    file.write(f"\n{NEW_VM}number {vm.number}, beside the first\n".encode())
                    shutil.copyfileobj(said, file)
                path.unlink()
            except FileNotFoundError:
                continue  # it was not booted
            except OSError as error:
                self._unwritten[vm.kernel] = str(publishing.results_error(self._directory, error))

    def _path(self, vm: Vm) -> Path:
        return self._directory / vm.kernel / ("console.log" if vm.number == 1 else f"console-{vm.number}.log")
