# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Say where each kernel runs: read the words of --on, and deal the kernels out."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HERE = ":"
"""The word for this machine itself, without ssh."""

_WORD = re.compile(r"(?P<host>(?:[^@:/\s]+@)?(?:\[[^\]\s]+\]|[^:/\[\]@\s]+))(?::(?P<directory>.*))?")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Hold another machine and where the project is on it."""

    word: str  # as --on has it
    host: str  # as ssh takes it
    directory: str  # absolute, or relative to the home directory there

    @property
    def shown(self) -> str:
        """Return the directory as a reader knows it."""
        return self.directory if self.directory.startswith("/") else f"~/{self.directory}".removesuffix("/.")


def read_place(word: str, *, root: Path, home: Path) -> Place | None:
    """Return the place that `word`, [USER@]HOST[:DIRECTORY], means; None for this machine.

    Without DIRECTORY it is `root`, the project's directory here: relative to the home directory if it is below `home`.
    Raises ValueError.
    """
    if word == HERE:
        return None
    parts = _WORD.fullmatch(word)
    if parts is None or word.startswith("-") or "//" in word:
        raise ValueError(
            f"--on {word}: takes [USER@]HOST[:DIRECTORY], HOST as ssh takes it (ports and the like are set in "
            f"~/.ssh/config), or {HERE} for this machine"
        )
    directory = parts["directory"] or ""
    if not directory:
        directory = str(root.relative_to(home) if root.is_relative_to(home) else root)
    # ssh starts at home; a shell there would take a quoted ~ for a name.
    directory = "." if directory == "~" else directory.removeprefix("~/")
    return Place(word=word, host=re.sub(r"[\[\]]", "", parts["host"]), directory=directory)


def deal(kernels: Sequence[str], places: Sequence[Place | None]) -> dict[str, Place | None]:
    """Return the place of each kernel: in turn; all here if no places are given."""
    return dict(zip(kernels, itertools.cycle(places or [None]), strict=False))


def parts_of(arguments: Iterable[str], *, root: Path) -> list[str]:
    """Return what `arguments`, places to look for cases, name below `root`, for it has to be there as well.

    Raises ValueError for what is elsewhere.
    """
    parts = []
    for argument in arguments:
        path = Path(argument.partition("::")[0]).absolute()
        if not path.exists():
            continue  # pytest has a word for it
        if not path.resolve().is_relative_to(root.resolve()):
            raise ValueError(f"{argument} is outside {root}: on other machines (--on) only the project's own files are")
        parts.append(str(path.resolve().relative_to(root.resolve())))
    return parts


def translate(arguments: Iterable[str], *, root: str, directory: str) -> list[str]:
    """Return the arguments with `directory` wherever they name `root` or a path below it."""
    name = re.compile(rf"(^|=){re.escape(root)}(?=/|$)")
    return [name.sub(lambda found: found[1] + directory, argument) for argument in arguments]
