# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read the words of --on, and assign the kernels to the machines that they name."""

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
class Host:
    """Another machine, and the project's directory on it."""

    word: str  # as --on has it
    destination: str  # as ssh takes it
    directory: str  # absolute, or relative to the home directory there

    @property
    def shown(self) -> str:
        """Return the directory as users write it: with ~ for the home directory."""
        return self.directory if self.directory.startswith("/") else f"~/{self.directory}".removesuffix("/.")


def read_host(word: str, *, root: Path, home: Path) -> Host | None:
    """Return the machine that `word`, [USER@]HOST[:DIRECTORY], names; None for this machine.

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
    return Host(word=word, destination=re.sub(r"[\[\]]", "", parts["host"]), directory=directory)


def assign(kernels: Sequence[str], hosts: Sequence[Host | None]) -> dict[str, Host | None]:
    """Return the machine of each kernel: the first kernel gets the first of `hosts`, and so on, again and again.

    None is this machine, which has all kernels if no hosts are given.
    """
    return dict(zip(kernels, itertools.cycle(hosts or [None]), strict=False))


def case_paths(arguments: Iterable[str], *, root: Path) -> list[str]:
    """Return the files and directories of cases that `arguments` name, relative to `root`: other machines need them.

    Raises ValueError for one that is not below `root`.
    """
    parts = []
    for argument in arguments:
        path = Path(argument.partition("::")[0]).absolute()
        if not path.exists():
            continue  # pytest reports it
        if not path.resolve().is_relative_to(root.resolve()):
            raise ValueError(f"{argument} is outside {root}: on other machines (--on) only the project's own files are")
        parts.append(str(path.resolve().relative_to(root.resolve())))
    return parts


def translate(arguments: Iterable[str], *, root: str, directory: str) -> list[str]:
    """Return the arguments with `directory` wherever they name `root` or a path below it."""
    name = re.compile(rf"(^|=){re.escape(root)}(?=/|$)")
    return [name.sub(lambda found: found[1] + directory, argument) for argument in arguments]
