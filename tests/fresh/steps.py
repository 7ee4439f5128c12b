# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The commands that are run in every root, in this order: those of the README, by root and by an ordinary user."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .root import NEWCOMER

if TYPE_CHECKING:
    from collections.abc import Sequence

KERNEL_PACKAGE = "linux-image-amd64"
"""Debian's package of the release's own kernel."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command, the user who types it, and what is there before."""

    name: str
    command: tuple[str, ...]
    user: str
    packages: tuple[str, ...] = ()  # installed before by the system's administrator
    runs_own_kernel: bool = False  # the system is told that its own installed kernel is the running one

    @property
    def typed(self) -> str:
        """Return the command as it is typed."""
        return shlex.join(self.command)


def readme_commands(readme: str) -> list[tuple[str, ...]]:
    """Return the words of the commands in the first block of code, in their order, without comments."""
    block = re.search(r"^```\w*\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    lines = block[1].splitlines() if block else []
    return [tuple(words) for line in lines if (words := shlex.split(line, comments=True))]


def steps(commands: Sequence[tuple[str, ...]]) -> tuple[Step, ...]:
    """Return what is tried in a root; `commands` are those of the README, the first of them boots a kernel.

    The ordinary user has no sudo: where `./bootstrap` finds the system packages there, it needs none.
    """
    first = commands[0]
    return (
        *(Step(name=f"command {number}", command=words, user="root") for number, words in enumerate(commands, 1)),
        Step(name="ordinary user", command=first, user=NEWCOMER),
        Step(
            name="own kernel",
            command=(*first, "--", "--kernel", "running"),
            user=NEWCOMER,
            packages=(KERNEL_PACKAGE,),
            runs_own_kernel=True,
        ),
    )
