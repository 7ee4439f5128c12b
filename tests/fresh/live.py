# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Lines about what goes on: finished ones stay; on a terminal, the one at work changes with its command's output."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from types import TracebackType


class Line:
    """The line at the bottom of the terminal; without a terminal, a line whenever something begins."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._status = self._console.status("", spinner="line")
        self._now = ""
        self._since = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._status.stop()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(escape(text), soft_wrap=True)

    def show(self, what: str, newest: str) -> None:
        """Show what is at work, for how long, and the newest line of its output."""
        if what != self._now:
            self._now, self._since = what, time.monotonic()
            if not self._console.is_terminal:
                self.say(f"{what} ...")
        if self._console.is_terminal:
            text = f"{what} · {clock(time.monotonic() - self._since)} · {newest}"
            self._status.update(escape(text[: self._console.width - 3]))


def clock(seconds: float) -> str:
    """Return minutes and seconds, as a clock shows them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
