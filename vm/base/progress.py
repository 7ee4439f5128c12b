# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Show progress: one line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.status import Status


class Progress:
    """The line that changes; call it with the new text."""

    def __init__(self, stream: TextIO, status: Status | None) -> None:
        self._stream, self._status = stream, status

    def __call__(self, line: str) -> None:
        """Show `line` in place of the one before."""
        if self._status is None:
            self.tell(line)
        else:
            # rich would take a bracket in a path for markup.
            self._status.update(line.replace("[", r"\["))

    def tell(self, line: str) -> None:
        """Print a line that stays."""
        if self._status is None:
            print(line, file=self._stream, flush=True)
        else:
            self._status.console.print(line, markup=False, highlight=False)


@contextlib.contextmanager
def progress_on(stream: TextIO) -> Iterator[Progress]:
    """Yield a progress line on `stream`; on a terminal it is removed at the end."""
    if not stream.isatty():
        yield Progress(stream, None)
        return
    with Console(file=stream).status("") as status:
        yield Progress(stream, status)
