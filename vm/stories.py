# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Keep what the witness told of each case: results/<run>/<kernel>/stories/<case>.txt, and read it back."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.interface.keys import STORY
from vm.results import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LONGEST = 120
_STEP = re.compile(r"  (\w+) +(.+)")


@dataclass(frozen=True, kw_only=True)
class Way:
    """Hold the way of one packet: a title, and steps of a topic and a sentence each."""

    title: str
    steps: tuple[tuple[str, str], ...]


def keep(properties: Iterable[tuple[str, object]], case: str, *, kernel: str, directory: Path) -> str | None:
    """Write the story among a report's properties under `directory`; return its path from there, None if there is none.

    Raises OSError.
    """
    text = next((str(value) for name, value in properties if name == STORY), None)
    if text is None:
        return None
    stories = directory / kernel / "stories"
    stories.mkdir(parents=True, exist_ok=True)
    return str(write_text(stories / file_name(case), text + "\n").relative_to(directory))


def file_name(case: str) -> str:
    """Return the name of a case's file: its id in characters that every file system takes."""
    name = re.sub(r"[^\w.+-]+", "_", case.removeprefix("cases/")).strip("_")
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}-{hashlib.sha256(case.encode()).hexdigest()[:8]}"
    return f"{name}.txt"


def parse(text: str) -> list[Way]:
    """Return the paths of a story's text; its remarks and notes are in none of them."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for line in text.splitlines():
        step = _STEP.fullmatch(line)
        if step is None:
            found.append((line, []))
        elif found:
            found[-1][1].append((step[1], step[2]))
    return [Way(title=title, steps=tuple(steps)) for title, steps in found if steps]


def contents(path: Path) -> str:
    """Return the text of a story's file, or that it is gone."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return f"{path.name} is not there any more"
