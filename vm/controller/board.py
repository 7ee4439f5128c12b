# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Show the progress of each kernel: a line each that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLAIN_EVERY = 10.0  # seconds between two plain lines of a kernel that only counts up


class Board:
    """The line of each kernel; safe to call from any thread."""

    def __init__(self, kernels: Sequence[str], *, file: TextIO) -> None:
        self._lines = dict.fromkeys(kernels, "waiting")
        self._said: dict[str, float] = {}
        self._file = file
        self._lock = threading.Lock()
        self._live: Live | None = None

    def start(self) -> None:
        """Begin to show the lines."""
        if self._file.isatty():
            console = Console(file=self._file, highlight=False)
            self._live = Live(get_renderable=self._table, console=console, refresh_per_second=4, transient=True)
            self._live.start()

    def stop(self) -> None:
        """Stop, and remove the lines that change."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, kernel: str, line: str, *, counting: bool = False) -> None:
        """Show `line` beside the kernel's name; of lines that are `counting` not each is printed as a plain line."""
        with self._lock:
            if self._lines[kernel] == line:
                return
            self._lines[kernel] = line
            if self._live is not None:
                return
            now = time.monotonic()
            if counting and now - self._said.get(kernel, 0) < _PLAIN_EVERY:
                return
            self._said[kernel] = now
            self._print(f"{kernel}: {line}")

    def tell(self, line: str) -> None:
        """Print a line that stays."""
        with self._lock:
            if self._live is not None:
                self._live.console.print(Text(line))
            else:
                self._print(line)

    def _print(self, line: str) -> None:
        encoding = self._file.encoding or "utf-8"
        self._file.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        self._file.flush()

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for kernel, line in list(self._lines.items()):
            table.add_row(Text(kernel, style="bold"), Text(line))
        return table
