# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Show what takes long: one line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_on(stream: TextIO) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows its line on `stream`; on a terminal the line is gone at the end."""
    if not stream.isatty():
        yield lambda line: print(line, file=stream, flush=True)
        return
    with Console(file=stream).status("") as status:
        # Its own markup would make something of a bracket in a path.
        yield lambda line: status.update(line.replace("[", r"\["))
